@description('Name of the account.')
param name string

@description('Region.')
param location string

@description('Whether only private endpoints and Event Grid get in.')
param privateNetwork bool

@description('Whether copies are spread over availability zones.')
param zoneRedundant bool

@description('Tags.')
param tags object

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' = {
  // checkov:skip=CKV_AZURE_43:the name is made of 'st' and thirteen lower-case characters, which checkov cannot see
  // checkov:skip=CKV_AZURE_59:Event Grid writes dead letters and queue messages as a trusted service, which needs the public endpoint with its firewall closed
  // checkov:skip=CKV_AZURE_35:closed with privateNetwork; a Flex Consumption app without a network can reach its storage by the public endpoint only
  // checkov:skip=CKV_AZURE_206:it holds packages, attempts and dead letters, which can all be made anew; zones by parameter
  name: name
  location: location
  kind: 'StorageV2'
  tags: tags
  sku: {
    name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: privateNetwork ? 'Deny' : 'Allow'
    }
    sasPolicy: {
      expirationAction: 'Log'
      sasExpirationPeriod: '0.01:00:00'
    }
  }
}
