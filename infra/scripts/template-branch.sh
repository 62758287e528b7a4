#!/bin/sh
# Writes what the branch `template` holds: the compiled template, and a page with the button that deploys it.
#
#   GITHUB_REPOSITORY=OWNER/NAME infra/scripts/template-branch.sh azuredeploy.json FOLDER
set -eu
mkdir -p "$2"
cp "$1" "$2/azuredeploy.json"
place="https://raw.githubusercontent.com/$GITHUB_REPOSITORY/template/azuredeploy.json"
uri=$(printf '%s' "$place" | sed 's|:|%3A|g; s|/|%2F|g')
cat >"$2/README.md" <<PAGE
# Deploy apim-cert-rotation

[![Deploy to Azure](https://aka.ms/deploytoazurebutton)](https://portal.azure.com/#create/Microsoft.Template/uri/$uri)

[Azure US Government](https://portal.azure.us/#create/Microsoft.Template/uri/$uri) ·
[Azure China](https://portal.azure.cn/#create/Microsoft.Template/uri/$uri)

The button makes everything but two things, which come after it, because Event Grid refuses a subscription whose function is
not there yet:

1. Put \`apim-cert-rotation.zip\` of the [release](https://github.com/$GITHUB_REPOSITORY/releases/latest) into the function app:
   \`az functionapp deployment source config-zip -g GROUP -n APP --src apim-cert-rotation.zip\`
2. Press the button again with the same values and \`deployEventSubscriptions\` = \`true\`.

It only looks until \`mode\` is \`enforce\`. What each value means, what it costs and how to remove it:
[docs/deploy.md](https://github.com/$GITHUB_REPOSITORY/blob/main/docs/deploy.md).
PAGE
