@description('Part of the names that makes them unique.')
param token string

@description('Region.')
param location string

@description('Subnet of the private endpoints.')
param subnetId string

@description('Network to which the DNS zones are linked.')
param networkId string

@description('ARM id of the storage account.')
param storageAccountId string

@description('ARM id of the function app.')
param siteId string

@description('ARM ids of the vaults that get an endpoint too.')
param vaultIds array

@description('Whether private DNS zones are made and linked.')
param makeDnsZones bool

@description('Tags.')
param tags object

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
var storageTargets = [for group in [
  'blob'
  'queue'
  'table'
]: {
  name: group
  id: storageAccountId
  group: group
  zone: 'privatelink.${group}.${environment().suffixes.storage}'
}]
var siteTarget = {
  name: 'app'
  id: siteId
  group: 'sites'
  zone: siteZones[environment().name]
}
var vaultTargets = [for id in vaultIds: {
  name: 'vault-${last(split(id, '/'))}'
  id: id
  group: 'vault'
  zone: vaultZones[environment().name]
}]
var targets = concat(storageTargets, [siteTarget], vaultTargets)
var zoneNames = concat([
  'privatelink.blob.${environment().suffixes.storage}'
  'privatelink.queue.${environment().suffixes.storage}'
  'privatelink.table.${environment().suffixes.storage}'
  siteZones[environment().name]
], empty(vaultIds) ? [] : [vaultZones[environment().name]])

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for zone in zoneNames: if (makeDnsZones) {
  name: zone
  location: 'global'
  tags: tags
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (zone, i) in zoneNames: if (makeDnsZones) {
  parent: zones[i]
  name: 'rotation-${token}'
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: networkId
    }
  }
}]

resource endpoints 'Microsoft.Network/privateEndpoints@2025-09-01' = [for target in targets: {
  name: 'pe-${target.name}-${token}'
  location: location
  tags: tags
  properties: {
    subnet: {
      id: subnetId
    }
    privateLinkServiceConnections: [
      {
        name: target.name
        properties: {
          privateLinkServiceId: target.id
          groupIds: [
            target.group
          ]
        }
      }
    ]
  }
}]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-09-01' = [for (target, i) in targets: if (makeDnsZones) {
  parent: endpoints[i]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: target.group
        properties: {
          privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', target.zone)
        }
      }
    ]
  }
  dependsOn: [
    zones
  ]
}]
