@description('ARM id of the vault.')
param vaultId string

@description('Name of the vault.')
param vaultName string

@description('Region of the vault, and so of its topic.')
param location string

@description('Name of the system topic that the vault has already; empty to make one.')
param existingName string

@description('Workspace for failed deliveries.')
param workspaceId string

@description('Tags.')
param tags object

resource made 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (empty(existingName)) {
  name: 'rotation-${vaultName}'
  location: location
  tags: tags
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    source: vaultId
    topicType: 'Microsoft.KeyVault.vaults'
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (empty(existingName)) {
  name: 'rotation'
  scope: made
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
  }
}

resource given 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = if (!empty(existingName)) {
  name: empty(existingName) ? 'rotation-${vaultName}' : existingName
}

output id string = empty(existingName) ? made.id : given.id
output name string = empty(existingName) ? made.name : given.name
output principalId string = empty(existingName) ? made!.identity.principalId : given!.identity.principalId
