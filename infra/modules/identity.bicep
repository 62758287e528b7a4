@description('Name of the identity that is made.')
param name string

@description('Region.')
param location string

@description('ARM id of an existing identity to use instead; empty to make one.')
param existingId string

@description('Tags.')
param tags object

resource made 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = if (empty(existingId)) {
  name: name
  location: location
  tags: tags
}

resource given 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = if (!empty(existingId)) {
  name: empty(existingId) ? name : last(split(existingId, '/'))
  scope: resourceGroup(empty(existingId) ? subscription().subscriptionId : split(existingId, '/')[2], empty(existingId) ? resourceGroup().name : split(existingId, '/')[4])
}

output id string = empty(existingId) ? made.id : given.id
output clientId string = empty(existingId) ? made!.properties.clientId : given!.properties.clientId
output principalId string = empty(existingId) ? made!.properties.principalId : given!.properties.principalId
