# After a deployment of the code: the second phase, in which Event Grid finds the function that it is to call.
$ErrorActionPreference = 'Stop'

# Admin endpoints answer to Azure Resource Manager only; the property is not in Bicep's type data.
az resource update --ids $env:AZURE_FUNCTION_APP_ID --set properties.functionsRuntimeAdminIsolationEnabled=true --output none
if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }

if ($env:ROTATION_EVENTS_SUBSCRIBED -eq 'true') {
    Write-Host 'The vaults are subscribed already.'
    exit 0
}
azd env set DEPLOY_EVENT_SUBSCRIPTIONS true
if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
azd provision --no-prompt
exit $LASTEXITCODE
