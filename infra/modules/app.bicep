@description('Part of the names that makes them unique.')
param token string

@description('Region.')
param location string

@description('ARM id of the app\'s identity.')
param identityId string

@description('Client id of the app\'s identity.')
param clientId string

@description('Name of the storage account in this resource group.')
param storageAccountName string

@description('Container of the deployed packages.')
param packageContainer string

@description('Connection string of Application Insights: an address, not a secret, because local authentication is off.')
param connectionString string

@description('Whether the app has no public address.')
param privateNetwork bool

@description('Subnet for outbound traffic; empty for none.')
param appSubnetId string

@description('Addresses (CIDR) from which operators may call the app.')
param operatorAddresses array

@description('Addresses (CIDR) from which packages may be deployed.')
param deployerAddresses array

@description('Whether instances are spread over availability zones.')
param zoneRedundant bool

@description('Memory of an instance, in MB.')
param instanceMemory int

@description('Most instances.')
param maximumInstances int

@description('observe or enforce.')
param mode string

@description('Subscriptions of the gateways in scope.')
param subscriptions array

@description('Names of the vaults that may be read.')
param vaultNames array

@description('URL of the ledger\'s table.')
param ledger string

@description('Queue of events; empty where Event Grid calls the app.')
param eventQueue string

@description('Client id of the Entra application that people sign in with; empty for function keys.')
param signInClientId string

@description('Queue of the shards of a large fleet.')
param shardQueue string

@description('Further settings by name; what this template decides cannot be set here.')
param settings object

@description('Tags.')
param tags object

var storageSuffix = environment().suffixes.storage
var signIn = !empty(signInClientId)
var publicAccess = privateNetwork && empty(deployerAddresses) ? 'Disabled' : 'Enabled'
var eventGridRule = [
  {
    name: 'event-grid'
    priority: 100
    action: 'Allow'
    tag: 'ServiceTag'
    ipAddress: 'AzureEventGrid'
  }
]
var operatorRules = [for (address, i) in operatorAddresses: {
  name: 'operators-${i}'
  priority: 200 + i
  action: 'Allow'
  ipAddress: address
}]
var deployerRules = [for (address, i) in deployerAddresses: {
  name: 'deployers-${i}'
  priority: 200 + i
  action: 'Allow'
  ipAddress: address
}]

// Every setting of the app, so that none is out of reach; an empty one is the app's default.
var defaultSettings = {
  ROTATION_ARM_URL: ''
  ROTATION_API_VERSION: ''
  ROTATION_KINDS: ''
  ROTATION_CONNECT_TO: ''
  ROTATION_PRIVATE_NETWORKS: ''
  ROTATION_SELF_HOSTED: ''
  ROTATION_WORKSPACE_GATEWAYS: ''
  ROTATION_CA_BUNDLE: ''
  ROTATION_SCHEDULE: ''
  ROTATION_DRIFT_AFTER_MINUTES: ''
  ROTATION_EXPIRES_SOON_DAYS: ''
  ROTATION_MAX_SYNCS: ''
  ROTATION_NAMED_VALUES: ''
  ROTATION_DEVELOPER_TIER: ''
  ROTATION_PROBE_TIMEOUT_SECONDS: ''
  ROTATION_EVENT_BUDGET_SECONDS: ''
  ROTATION_SHARD_SIZE: ''
  ROTATION_NOTICES: ''
}
var decidedSettings = {
  ROTATION_MODE: mode
  ROTATION_SUBSCRIPTIONS: join(subscriptions, ',')
  ROTATION_VAULTS: join(vaultNames, ',')
  ROTATION_CLOUD: environment().name
  ROTATION_LEDGER: ledger
  ROTATION_EVENT_QUEUE: eventQueue
  ROTATION_SIGN_IN: signIn ? 'on' : 'off'
  ROTATION_SHARD_QUEUE: shardQueue
}
// An app that is joined to a network was joined to reach what is in it.
var joined = !empty(appSubnetId) && empty(settings.?ROTATION_PRIVATE_NETWORKS ?? '')
var reachSettings = joined ? { ROTATION_PRIVATE_NETWORKS: 'all' } : {}
var platformSettings = {
  AZURE_CLIENT_ID: clientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: connectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${clientId};Authorization=AAD'
  APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL: 'true'
  APPLICATIONINSIGHTS_SDKSTATS_DISABLED: 'true'
  APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED: 'true'
  OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: clientId
  AzureWebJobsDisableHomepage: 'true'
  AzureWebJobsStorage__blobServiceUri: 'https://${storageAccountName}.blob.${storageSuffix}'
  AzureWebJobsStorage__queueServiceUri: 'https://${storageAccountName}.queue.${storageSuffix}'
  AzureWebJobsStorage__tableServiceUri: 'https://${storageAccountName}.table.${storageSuffix}'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: clientId
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  // checkov:skip=CKV_AZURE_225:zones by parameter; not every region has them
  name: 'plan-${token}'
  location: location
  kind: 'functionapp'
  tags: tags
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  // checkov:skip=CKV_AZURE_17:Event Grid has no client certificate, so requiring one would stop every event
  // checkov:skip=CKV_AZURE_222:Event Grid calls the app by its public address, which is closed to everybody else; none with privateNetwork
  // checkov:skip=CKV_AZURE_213:Flex Consumption has no health check; the heartbeat alert watches that the app works
  // checkov:skip=CKV_AZURE_212:Flex Consumption has no fixed number of instances
  name: 'func-${token}'
  location: location
  kind: 'functionapp,linux'
  tags: union(tags, { 'azd-service-name': 'rotation' })
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identityId
    publicNetworkAccess: publicAccess
    virtualNetworkSubnetId: empty(appSubnetId) ? null : appSubnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: 'https://${storageAccountName}.blob.${storageSuffix}/${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: maximumInstances
      }
    }
    siteConfig: {
      cors: {
        allowedOrigins: []
        supportCredentials: false
      }
      ftpsState: 'Disabled'
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      remoteDebuggingEnabled: false
      ipSecurityRestrictionsDefaultAction: 'Deny'
      ipSecurityRestrictions: concat(privateNetwork ? [] : eventGridRule, operatorRules)
      scmIpSecurityRestrictionsUseMain: false
      scmIpSecurityRestrictionsDefaultAction: empty(deployerAddresses) ? 'Allow' : 'Deny'
      scmIpSecurityRestrictions: deployerRules
    }
  }

  // Always there, so that it is turned off where it was on. The app asks who has signed in for an app role.
  resource authentication 'config' = {
    name: 'authsettingsV2'
    properties: {
      platform: {
        enabled: signIn
      }
      globalValidation: {
        requireAuthentication: signIn
        unauthenticatedClientAction: 'Return401'
        excludedPaths: [
          '/runtime/webhooks/eventgrid'
          '/api/health'
        ]
      }
      httpSettings: {
        requireHttps: true
      }
      identityProviders: {
        azureActiveDirectory: {
          enabled: signIn
          registration: {
            clientId: signInClientId
            // No secret: the app's identity vouches for the app, by a federated credential of the Entra application.
            clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
            openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
          }
          validation: {
            allowedAudiences: [
              signInClientId
              'api://${signInClientId}'
            ]
          }
        }
      }
      login: {
        tokenStore: {
          enabled: false
        }
      }
    }
  }

  // After authentication: the app does not start to ask for roles before somebody says who has signed in.
  resource appSettings 'config' = {
    name: 'appsettings'
    properties: union(defaultSettings, settings, reachSettings, decidedSettings, platformSettings)
    dependsOn: [
      authentication
    ]
  }

  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }
}

output id string = site.id
output name string = site.name
output host string = site.properties.defaultHostName
