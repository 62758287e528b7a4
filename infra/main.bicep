targetScope = 'resourceGroup'

metadata name = 'apim-cert-rotation'
metadata description = 'Rotates the TLS certificates of API Management gateways when Key Vault renews them, and proves it by handshake.'

// What it looks at

@description('Name of the environment: part of the names of all resources, so that several fit into one subscription.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('Region of everything made here but the system topics, which stand where their vaults stand.')
param location string = resourceGroup().location

@description('ARM ids of the resource groups whose API Management services are in scope.')
@minLength(1)
param gatewayResourceGroups array

@description('The vaults whose certificates the gateways serve: [{ "id": "ARM id of the vault", "topic": "ARM id of its system topic, where it has one" }]. A vault can have only one system topic; an existing one must have a system-assigned identity.')
@minLength(1)
param vaults array

@description('observe: look and report, with read rights only. enforce: also ask for syncs, with one more role.')
@allowed([
  'observe'
  'enforce'
])
param mode string = 'observe'

@description('Further settings of the app by name, as in docs/settings.md. An empty value is the default of the app.')
param settings object = {}

// Rights

@description('The role that may sync. Exact: a custom role with refreshHostnames and nothing else that changes anything. Azure refuses it while it does not list that action; then Wildcard: a custom role with every action of a service but the listed ones. ServiceContributor: the built-in role, far too wide.')
@allowed([
  'Exact'
  'Wildcard'
  'ServiceContributor'
])
param syncRole string = 'Exact'

@description('Actions for a custom role of their own beside the one that may sync. What the kinds of gateway in the setting ROTATION_KINDS need is among them anyway.')
param extraSyncActions array = []

@description('The role on the vaults. Certificates: a custom role with certificates/read alone. Reader: Key Vault Reader, where custom roles are not allowed. Neither can read a secret.')
@allowed([
  'Certificates'
  'Reader'
])
param vaultRole string = 'Certificates'

// Phases

@description('Event subscriptions need the deployed function, so they are made in a second deployment; the postdeploy hook sets this.')
param deployEventSubscriptions bool = false

// Network

@description('Storage and the app answer on private endpoints only, and events come through a storage queue, because Event Grid cannot push to a private app.')
param privateNetwork bool = false

@description('Addresses (CIDR) from which operators may call the app.')
param operatorAddresses array = []

@description('Addresses (CIDR) from which packages may be deployed. Empty: from anywhere with an Entra token; with privateNetwork, from the network only.')
param deployerAddresses array = []

@description('Client id of an Entra application with the app roles reader and operator, as infra/scripts/register-sign-in.sh makes it: people then sign in, in place of function keys. Empty: function keys.')
param signInClientId string = ''

@description('Address space of the network that is made with privateNetwork when no subnets are given.')
param addressPrefix string = '10.220.0.0/26'

@description('The part of it for the app, at least a /27.')
param appSubnetPrefix string = '10.220.0.0/27'

@description('The part of it for private endpoints.')
param endpointSubnetPrefix string = '10.220.0.32/27'

@description('ARM id of an existing subnet, delegated to Microsoft.App/environments, for outbound traffic; also without privateNetwork, to reach private gateways.')
param appSubnetId string = ''

@description('ARM id of an existing subnet for private endpoints; to be given together with appSubnetId.')
param endpointSubnetId string = ''

@description('Make the private DNS zones. Turn off where policies or a hub register private endpoints.')
param privateDnsZones bool = true

@description('Also make private endpoints to the vaults.')
param vaultPrivateEndpoints bool = false

// Existing resources

@description('ARM id of an existing workspace-based Application Insights component in this subscription.')
param existingApplicationInsightsId string = ''

@description('Name of an existing storage account in this resource group, for this app alone.')
param existingStorageAccountName string = ''

@description('ARM id of an existing user-assigned identity.')
param existingIdentityId string = ''

@description('URL of a ledger table to share with a deployment in another region: https://ACCOUNT.table.SUFFIX/TABLE. Its account must know this app\'s identity as Storage Table Data Contributor.')
param sharedLedger string = ''

// Size

@description('Spread instances and storage over availability zones.')
param zoneRedundant bool = false

@description('Memory of an instance, in MB.')
@allowed([
  512
  2048
  4096
])
param instanceMemory int = 2048

@description('Most instances.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 40

@description('Days that telemetry is kept.')
@minValue(30)
@maxValue(730)
param retentionDays int = 90

@description('Most gigabytes a day into the workspace that is made here; -1 for no limit.')
param dailyQuotaGb int = 1

// Alerts

@description('Whether alert rules are made.')
param alerts bool = true

@description('ARM ids of action groups that alerts call.')
param actionGroupIds array = []

@description('Mail address for alerts: makes an action group of its own.')
param alertEmail string = ''

@description('Where the runbooks can be read: the address of docs/runbooks in your copy of the repository.')
param runbooks string = 'docs/runbooks'

@description('Days before its end from which a served certificate is critical.')
@minValue(1)
@maxValue(90)
param criticalDays int = 7

@description('Days before its end from which a served certificate is worth a warning; more than criticalDays.')
@minValue(2)
@maxValue(180)
param warningDays int = 21

@description('Minutes from a new version to its proof that are good enough.')
@minValue(15)
@maxValue(2880)
param objectiveMinutes int = 120

@description('Minutes without a pass of the timer after which something is wrong; more than the schedule\'s interval.')
@minValue(10)
@maxValue(300)
param heartbeatMinutes int = 30

@description('Messages that may wait in the queues, on an average of six hours: 0, or the number of shards where a fleet is split.')
@minValue(0)
@maxValue(256)
param stuckMessages int = 0

@description('Tags on everything that is made here.')
param tags object = {}

var token = uniqueString(resourceGroup().id, environmentName, location)
var allTags = union(tags, { 'azd-env-name': environmentName })
var subscriptions = [for group in gatewayResourceGroups: split(group, '/')[2]]
var vaultNames = [for vault in vaults: last(split(vault.id, '/'))]
var topicHomes = [for vault in vaults: empty(vault.?topic ?? '') ? vault.id : vault.topic]
var insightsHome = empty(existingApplicationInsightsId) ? resourceGroup().id : existingApplicationInsightsId
var enforced = mode == 'enforce'
var makeNetwork = privateNetwork && empty(appSubnetId)
var storageAccountName = empty(existingStorageAccountName) ? 'st${token}' : existingStorageAccountName

var tableName = 'rotation'
var queueName = 'certificate-events'
var shardQueueName = 'rotation-shards'
var packageContainer = 'packages'
var deadLetterContainer = 'dead-letters'

var networkId = join(take(split(endpointSubnetId, '/'), 9), '/')
var siteZones = {
  AzureCloud: 'privatelink.azurewebsites.net'
  AzureUSGovernment: 'privatelink.azurewebsites.us'
  AzureChinaCloud: 'privatelink.chinacloudsites.cn'
}
var vaultZones = {
  AzureCloud: 'privatelink.vaultcore.azure.net'
  AzureUSGovernment: 'privatelink.vaultcore.usgovcloudapi.net'
  AzureChinaCloud: 'privatelink.vaultcore.azure.cn'
}
var storageServices = [
  'blob'
  'queue'
  'table'
]
var storageTargets = [for service in storageServices: {
  name: service
  id: resourceId('Microsoft.Storage/storageAccounts', storageAccountName)
  group: service
  zone: 'privatelink.${service}.${environment().suffixes.storage}'
}]
var vaultTargets = [for vault in vaults: {
  name: 'vault-${last(split(vault.id, '/'))}'
  id: vault.id
  group: 'vault'
  zone: vaultZones[environment().name]
}]

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    name: 'id-${token}'
    location: location
    existingId: existingIdentityId
    tags: allTags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    token: token
    location: location
    existingId: existingApplicationInsightsId
    retentionDays: retentionDays
    dailyQuotaGb: dailyQuotaGb
    tags: allTags
  }
}

module publisher 'modules/publisher.bicep' = {
  name: 'publisher'
  scope: resourceGroup(split(insightsHome, '/')[2], split(insightsHome, '/')[4])
  params: {
    componentName: monitoring.outputs.name
    principalId: identity.outputs.principalId
  }
}

module network 'modules/network.bicep' = if (makeNetwork) {
  name: 'network'
  params: {
    token: token
    location: location
    addressPrefix: addressPrefix
    appSubnetPrefix: appSubnetPrefix
    endpointSubnetPrefix: endpointSubnetPrefix
    tags: allTags
  }
}

module account 'modules/storage-account.bicep' = if (empty(existingStorageAccountName)) {
  name: 'storage-account'
  params: {
    name: storageAccountName
    location: location
    privateNetwork: privateNetwork
    zoneRedundant: zoneRedundant
    tags: allTags
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    accountName: storageAccountName
    packageContainer: packageContainer
    deadLetterContainer: deadLetterContainer
    queueName: queueName
    shardQueueName: shardQueueName
    tableName: tableName
    principalId: identity.outputs.principalId
  }
  dependsOn: [
    account
  ]
}

module storageEndpoints 'modules/endpoints.bicep' = if (privateNetwork) {
  name: 'storage-endpoints'
  params: {
    token: token
    location: location
    subnetId: makeNetwork ? network!.outputs.endpointSubnetId : endpointSubnetId
    networkId: makeNetwork ? network!.outputs.id : networkId
    targets: concat(storageTargets, vaultPrivateEndpoints ? vaultTargets : [])
    makeDnsZones: privateDnsZones
    tags: allTags
  }
  dependsOn: [
    storage
  ]
}

module appEndpoint 'modules/endpoints.bicep' = if (privateNetwork) {
  name: 'app-endpoint'
  params: {
    token: token
    location: location
    subnetId: makeNetwork ? network!.outputs.endpointSubnetId : endpointSubnetId
    networkId: makeNetwork ? network!.outputs.id : networkId
    targets: [
      {
        name: 'app'
        id: app.outputs.id
        group: 'sites'
        zone: siteZones[environment().name]
      }
    ]
    makeDnsZones: privateDnsZones
    tags: allTags
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  params: {
    token: token
    location: location
    identityId: identity.outputs.id
    clientId: identity.outputs.clientId
    storageAccountName: storageAccountName
    packageContainer: packageContainer
    connectionString: monitoring.outputs.connectionString
    privateNetwork: privateNetwork
    appSubnetId: makeNetwork ? network!.outputs.appSubnetId : appSubnetId
    operatorAddresses: operatorAddresses
    deployerAddresses: deployerAddresses
    zoneRedundant: zoneRedundant
    instanceMemory: instanceMemory
    maximumInstances: maximumInstances
    mode: mode
    subscriptions: union(subscriptions, subscriptions)
    vaultNames: vaultNames
    ledger: empty(sharedLedger) ? '${storage.outputs.tableEndpoint}${tableName}' : sharedLedger
    eventQueue: privateNetwork ? queueName : ''
    signInClientId: signInClientId
    shardQueue: shardQueueName
    settings: settings
    tags: allTags
  }
  dependsOn: [
    storageEndpoints
  ]
}

// What a kind of gateway needs to be synced, where the setting turns it on.
var kinds = toLower(settings.?ROTATION_KINDS ?? '')
var selfHostedGatewayActions = contains(kinds, 'selfhostedgateway') ? [
  'Microsoft.ApiManagement/service/certificates/refreshSecret/action'
] : []
var certificateEntityActions = contains(kinds, 'certificateentity') ? [
  'Microsoft.ApiManagement/service/certificates/refreshSecret/action'
  'Microsoft.ApiManagement/service/workspaces/certificates/refreshSecret/action'
] : []
var namedValueActions = contains(kinds, 'namedvalue') ? [
  'Microsoft.ApiManagement/service/namedValues/refreshSecret/action'
  'Microsoft.ApiManagement/service/workspaces/namedValues/refreshSecret/action'
] : []
var syncWorkspaceGateways = toLower(settings.?ROTATION_WORKSPACE_GATEWAYS ?? '') == 'enforce'
var workspaceGatewayActions = syncWorkspaceGateways && contains(kinds, 'workspacegateway') ? [
  'Microsoft.ApiManagement/gateways/hostnameBindings/refreshSecret/action'
] : []
var applicationGatewayActions = contains(kinds, 'applicationgateway') ? [
  'Microsoft.Resources/tags/write'
  'Microsoft.Network/applicationGateways/backendhealth/action'
] : []

module gatewayRights 'modules/gateway-rights.bicep' = [for group in union(gatewayResourceGroups, gatewayResourceGroups): {
  name: 'gateway-rights-${uniqueString(group)}'
  scope: resourceGroup(split(group, '/')[2], split(group, '/')[4])
  params: {
    principalId: identity.outputs.principalId
    mayAct: enforced
    syncRole: syncRole
    extraSyncActions: union(extraSyncActions, selfHostedGatewayActions, certificateEntityActions, namedValueActions, workspaceGatewayActions, applicationGatewayActions)
  }
}]

// One after the other: vaults of one resource group share a role definition, and Azure refuses to write it twice at once.
@batchSize(1)
module vaultRights 'modules/vault-rights.bicep' = [for vault in vaults: {
  name: 'vault-rights-${uniqueString(vault.id)}'
  scope: resourceGroup(split(vault.id, '/')[2], split(vault.id, '/')[4])
  params: {
    vaultName: last(split(vault.id, '/'))
    principalId: identity.outputs.principalId
    vaultRole: vaultRole
  }
}]

resource keyVaults 'Microsoft.KeyVault/vaults@2026-02-01' existing = [for vault in vaults: {
  name: last(split(vault.id, '/'))
  scope: resourceGroup(split(vault.id, '/')[2], split(vault.id, '/')[4])
}]

module topics 'modules/topic.bicep' = [for (vault, i) in vaults: {
  name: 'topic-${uniqueString(vault.id)}'
  scope: resourceGroup(split(topicHomes[i], '/')[2], split(topicHomes[i], '/')[4])
  params: {
    vaultId: vault.id
    vaultName: last(split(vault.id, '/'))
    location: keyVaults[i].location
    existingName: empty(vault.?topic ?? '') ? '' : last(split(vault.topic, '/'))
    workspaceId: monitoring.outputs.workspaceId
    tags: allTags
  }
}]

module topicRights 'modules/topic-rights.bicep' = [for (vault, i) in vaults: {
  name: 'topic-rights-${uniqueString(vault.id)}'
  params: {
    accountName: storageAccountName
    deadLetterContainer: deadLetterContainer
    queueName: privateNetwork ? queueName : ''
    topicId: topics[i].outputs.id
    principalId: topics[i].outputs.principalId
  }
  dependsOn: [
    storage
  ]
}]

module eventSubscriptions 'modules/event-subscription.bicep' = [for (vault, i) in vaults: if (deployEventSubscriptions) {
  name: 'event-subscription-${uniqueString(vault.id)}'
  scope: resourceGroup(split(topicHomes[i], '/')[2], split(topicHomes[i], '/')[4])
  params: {
    topicName: topics[i].outputs.name
    name: 'certificate-rotation-${token}'
    siteId: app.outputs.id
    storageAccountId: storage.outputs.id
    deadLetterContainer: deadLetterContainer
    queueName: privateNetwork ? queueName : ''
  }
  dependsOn: [
    topicRights
  ]
}]

module alertRules 'modules/alerts.bicep' = if (alerts) {
  name: 'alerts'
  params: {
    token: token
    location: location
    workspaceId: monitoring.outputs.workspaceId
    workspaceName: empty(existingApplicationInsightsId) ? 'log-${token}' : ''
    storageAccountId: storage.outputs.id
    stuckMessages: stuckMessages
    actionGroupIds: actionGroupIds
    alertEmail: alertEmail
    runbooks: runbooks
    criticalDays: criticalDays
    warningDays: warningDays
    objectiveMinutes: objectiveMinutes
    heartbeatMinutes: heartbeatMinutes
    tags: allTags
  }
}

module topicAlerts 'modules/topic-alerts.bicep' = [for (vault, i) in vaults: if (alerts) {
  name: 'topic-alerts-${uniqueString(vault.id)}'
  params: {
    topicId: topics[i].outputs.id
    vaultName: last(split(vault.id, '/'))
    token: token
    actionGroupIds: alertRules!.outputs.actionGroupIds
    runbooks: runbooks
    tags: allTags
  }
}]

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  params: {
    name: guid(resourceGroup().id, environmentName, 'workbook')
    location: location
    environmentName: environmentName
    workspaceId: monitoring.outputs.workspaceId
    tags: allTags
  }
}

output AZURE_FUNCTION_APP_NAME string = app.outputs.name
output AZURE_FUNCTION_APP_ID string = app.outputs.id
output AZURE_FUNCTION_APP_URL string = 'https://${app.outputs.host}'
output ROTATION_IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId
output ROTATION_MODE string = mode
output ROTATION_STORAGE_ACCOUNT_ID string = storage.outputs.id
output ROTATION_DEAD_LETTER_CONTAINER string = deadLetterContainer
output ROTATION_EVENT_QUEUE string = privateNetwork ? queueName : ''
output ROTATION_SUBSCRIPTION_NAME string = 'certificate-rotation-${token}'
output ROTATION_EVENTS_SUBSCRIBED bool = deployEventSubscriptions
output ROTATION_LOG_ANALYTICS_WORKSPACE_ID string = monitoring.outputs.workspaceId
output ROTATION_WORKBOOK_ID string = workbook.outputs.id
