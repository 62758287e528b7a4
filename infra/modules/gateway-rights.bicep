@description('Principal id of the app\'s identity.')
param principalId string

@description('Whether the app may ask for syncs.')
param mayAct bool

@description('Exact, Wildcard or ServiceContributor.')
param syncRole string

@description('Actions for a role beside the one that may sync.')
param extraSyncActions array

var reader = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'
var serviceContributor = '312a565d-c81f-4fd8-895a-4e21e48d571c'
var isCustom = syncRole != 'ServiceContributor'
var actions = {
  Exact: [
    'Microsoft.ApiManagement/service/read'
    'Microsoft.ApiManagement/service/operationresults/read'
    'Microsoft.ApiManagement/service/refreshHostnames/action'
  ]
  Wildcard: [
    'Microsoft.ApiManagement/service/read'
    'Microsoft.ApiManagement/service/operationresults/read'
    'Microsoft.ApiManagement/service/*/action'
  ]
}
var notActions = {
  Exact: []
  Wildcard: [
    'Microsoft.ApiManagement/service/*/*/action'
    'Microsoft.ApiManagement/service/applynetworkconfigurationupdates/action'
    'Microsoft.ApiManagement/service/backup/action'
    'Microsoft.ApiManagement/service/getssotoken/action'
    'Microsoft.ApiManagement/service/managedeployments/action'
    'Microsoft.ApiManagement/service/notifications/action'
    'Microsoft.ApiManagement/service/restore/action'
    'Microsoft.ApiManagement/service/scheduledMaintenance/action'
    'Microsoft.ApiManagement/service/updatecertificate/action'
    'Microsoft.ApiManagement/service/updatehostname/action'
    'Microsoft.ApiManagement/service/users/action'
    'Microsoft.ApiManagement/service/validatePolicies/action'
  ]
}
var extraRoleName = guid(resourceGroup().id, 'apim-cert-rotation', 'sync', 'extra')
var customRoleName = guid(resourceGroup().id, 'apim-cert-rotation', 'sync', syncRole)

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(resourceGroup().id, principalId, reader)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
    description: 'apim-cert-rotation: finds gateways and reads their configuration'
  }
}

resource customRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (mayAct && isCustom) {
  name: customRoleName
  properties: {
    roleName: 'API Management certificate sync (${syncRole}, ${uniqueString(resourceGroup().id)})'
    description: 'May tell API Management to read its Key Vault certificates again.'
    type: 'CustomRole'
    assignableScopes: [
      resourceGroup().id
    ]
    permissions: [
      {
        actions: isCustom ? actions[syncRole] : []
        notActions: isCustom ? notActions[syncRole] : []
      }
    ]
  }
}

// A role of its own: what Wildcard takes away below a service would take these away too.
resource extraRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (mayAct && !empty(extraSyncActions)) {
  name: extraRoleName
  properties: {
    roleName: 'Certificate sync of further kinds of gateway (${uniqueString(resourceGroup().id)})'
    description: 'May tell further kinds of gateway to read their Key Vault certificates again.'
    type: 'CustomRole'
    assignableScopes: [
      resourceGroup().id
    ]
    permissions: [
      {
        actions: extraSyncActions
        notActions: []
      }
    ]
  }
}

resource maySyncMore 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (mayAct && !empty(extraSyncActions)) {
  name: guid(resourceGroup().id, principalId, 'sync', 'extra')
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', extraRoleName)
    description: 'apim-cert-rotation: asks for syncs of further kinds of gateway'
  }
  dependsOn: [
    extraRole
  ]
}

resource maySync 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (mayAct) {
  name: guid(resourceGroup().id, principalId, 'sync', syncRole)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', isCustom ? customRoleName : serviceContributor)
    description: 'apim-cert-rotation: asks for syncs'
  }
  dependsOn: [
    customRole
  ]
}
