#!/bin/sh
# After a deployment of the code: the second phase, in which Event Grid finds the function that it is to call.
set -eu

# Admin endpoints answer to Azure Resource Manager only; the property is not in Bicep's type data.
az resource update --ids "$AZURE_FUNCTION_APP_ID" --set properties.functionsRuntimeAdminIsolationEnabled=true --output none

if [ "${ROTATION_EVENTS_SUBSCRIBED:-false}" = true ]; then
    echo "The vaults are subscribed already."
    exit 0
fi
azd env set DEPLOY_EVENT_SUBSCRIPTIONS true
azd provision --no-prompt
