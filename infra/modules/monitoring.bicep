@description('Part of the names that makes them unique.')
param token string

@description('Region.')
param location string

@description('ARM id of an existing workspace-based component to use instead; empty to make one with its workspace.')
param existingId string

@description('Days that telemetry is kept.')
param retentionDays int

@description('Most gigabytes a day; -1 for no limit.')
param dailyQuotaGb int

@description('Tags.')
param tags object

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' = if (empty(existingId)) {
  name: 'log-${token}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    workspaceCapping: {
      dailyQuotaGb: dailyQuotaGb
    }
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource made 'Microsoft.Insights/components@2020-02-02' = if (empty(existingId)) {
  name: 'appi-${token}'
  location: location
  kind: 'web'
  tags: tags
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource given 'Microsoft.Insights/components@2020-02-02' existing = if (!empty(existingId)) {
  name: empty(existingId) ? 'appi-${token}' : last(split(existingId, '/'))
  scope: resourceGroup(empty(existingId) ? subscription().subscriptionId : split(existingId, '/')[2], empty(existingId) ? resourceGroup().name : split(existingId, '/')[4])
}

output id string = empty(existingId) ? resourceId('Microsoft.Insights/components', 'appi-${token}') : existingId
output name string = empty(existingId) ? 'appi-${token}' : last(split(existingId, '/'))
output connectionString string = empty(existingId) ? made!.properties.ConnectionString : given!.properties.ConnectionString
output workspaceId string = empty(existingId) ? workspace.id : given!.properties.WorkspaceResourceId
