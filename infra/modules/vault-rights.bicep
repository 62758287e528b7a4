@description('Name of the vault in this resource group.')
param vaultName string

@description('Principal id of the app\'s identity.')
param principalId string

@description('Certificates or Reader.')
param vaultRole string

var keyVaultReader = '21090545-7ca7-4776-b22c-e363652d74d2'
var customRoleName = guid(resourceGroup().id, 'apim-cert-rotation', 'certificates')
var isCustom = vaultRole == 'Certificates'

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vaultName
}

resource customRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (isCustom) {
  name: customRoleName
  properties: {
    roleName: 'Key Vault certificate reader, public part (${uniqueString(resourceGroup().id)})'
    description: 'May read and list certificates without their private keys.'
    type: 'CustomRole'
    assignableScopes: [
      resourceGroup().id
    ]
    permissions: [
      {
        actions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/certificates/read'
        ]
      }
    ]
  }
}

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, principalId, vaultRole)
  scope: vault
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', isCustom ? customRoleName : keyVaultReader)
    description: 'apim-cert-rotation: reads the newest version of certificates, never a secret'
  }
  dependsOn: [
    customRole
  ]
}
