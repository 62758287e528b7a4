@description('Part of the names that makes them unique.')
param token string

@description('Region.')
param location string

@description('Subnet of the private endpoints.')
param subnetId string

@description('Network to which the DNS zones are linked.')
param networkId string

@description('What gets an endpoint: [{ "name", "id", "group", "zone" }], the zone being that of its private link.')
param targets array

@description('Whether private DNS zones are made and linked.')
param makeDnsZones bool

@description('Tags.')
param tags object

var zonesOfTargets = [for target in targets: target.zone]
var zoneNames = union(zonesOfTargets, zonesOfTargets)

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
