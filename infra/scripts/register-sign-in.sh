#!/bin/sh
# Makes the Entra application with which people sign in, and hands it to the template. What is there stays as it is.
#
#   set -a; eval "$(azd env get-values)"; infra/scripts/register-sign-in.sh
#
# Whoever runs it needs to be Application Administrator of the tenant, or Application Developer for a first run.
set -eu
: "${AZURE_ENV_NAME:?}" "${AZURE_FUNCTION_APP_URL:?}" "${ROTATION_IDENTITY_PRINCIPAL_ID:?}"
roles=$(dirname "$0")/../app-roles.json
name="apim-cert-rotation $AZURE_ENV_NAME"

case $(az cloud show --query name --output tsv) in
AzureUSGovernment) audience=api://AzureADTokenExchangeUSGov ;;
AzureChinaCloud) audience=api://AzureADTokenExchangeChina ;;
*) audience=api://AzureADTokenExchange ;;
esac
issuer=$(az cloud show --query endpoints.activeDirectory --output tsv)
issuer=${issuer%/}/$(az account show --query tenantId --output tsv)/v2.0

app=$(az ad app list --filter "displayName eq '$name'" --query "[0].appId" --output tsv)
if [ -z "$app" ]; then
    app=$(az ad app create --display-name "$name" --sign-in-audience AzureADMyOrg --app-roles "@$roles" \
        --enable-id-token-issuance true --web-redirect-uris "$AZURE_FUNCTION_APP_URL/.auth/login/aad/callback" \
        --query appId --output tsv)
    az ad app update --id "$app" --identifier-uris "api://$app"
fi
# No secret: whoever runs as the app's managed identity speaks for this application.
if [ -z "$(az ad app federated-credential list --id "$app" --query "[?name=='function-app'].id" --output tsv)" ]; then
    az ad app federated-credential create --id "$app" --output none --parameters "{\"name\": \"function-app\",
        \"issuer\": \"$issuer\", \"subject\": \"$ROTATION_IDENTITY_PRINCIPAL_ID\", \"audiences\": [\"$audience\"]}"
fi
principal=$(az ad sp list --filter "appId eq '$app'" --query "[0].id" --output tsv)
[ -n "$principal" ] || principal=$(az ad sp create --id "$app" --query id --output tsv)
az ad sp update --id "$principal" --set appRoleAssignmentRequired=true

azd env set SIGN_IN_CLIENT_ID "$app"
echo "Give people a role: Entra admin centre, Enterprise applications, $name, Users and groups. Then: azd provision"
