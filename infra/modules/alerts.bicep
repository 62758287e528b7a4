@description('Part of the names that makes them unique.')
param token string

@description('Region.')
param location string

@description('ARM id of the workspace that the rules ask.')
param workspaceId string

@description('Name of the workspace where it is in this resource group: the rules then ask with an identity of their own. Empty: with the rights of whoever deploys them.')
param workspaceName string

@description('ARM id of the storage account.')
param storageAccountId string

@description('How many messages may wait in the account, on an average of six hours.')
param stuckMessages int

@description('Action groups to call.')
param actionGroupIds array

@description('Mail address: makes an action group of its own.')
param alertEmail string

@description('Where the runbooks can be read.')
param runbooks string

@description('Days before its end from which a served certificate is critical.')
param criticalDays int

@description('Days before its end from which a served certificate is worth a warning.')
param warningDays int

@description('Minutes from a new version to its proof that are good enough.')
param objectiveMinutes int

@description('Minutes without a pass of the timer after which something is wrong.')
param heartbeatMinutes int

@description('Tags.')
param tags object

var logAnalyticsReader = '73c42c96-874c-492b-b04d-ab87d138a893'
var gateway = {
  name: 'gateway'
  operator: 'Include'
  values: [
    '*'
  ]
}
var hostname = {
  name: 'hostname'
  operator: 'Include'
  values: [
    '*'
  ]
}
var reason = {
  name: 'reason'
  operator: 'Include'
  values: [
    '*'
  ]
}
var trafficStops = {
  name: 'traffic_stops'
  operator: 'Include'
  values: [
    '*'
  ]
}
var cause = {
  name: 'cause'
  operator: 'Include'
  values: [
    '*'
  ]
}
var certificate = {
  name: 'certificate'
  operator: 'Include'
  values: [
    '*'
  ]
}

// A number in a query is that of its let statement, exchanged here.
var rules = [
  {
    name: 'drift'
    title: 'An old certificate is served past the deadline'
    severity: 1
    frequency: 'PT15M'
    window: 'PT1H'
    dimensions: [
      gateway
      hostname
      reason
    ]
    query: loadTextContent('../queries/alerts/drift.kql')
  }
  {
    name: 'rotation-failed'
    title: 'A rotation is refused, or its attempts are exhausted'
    severity: 1
    frequency: 'PT15M'
    window: 'P2D'
    dimensions: [
      gateway
      cause
    ]
    query: loadTextContent('../queries/alerts/rotation-failed.kql')
  }
  {
    name: 'blocked'
    title: 'A rotation is blocked until somebody mends its cause'
    severity: 2
    frequency: 'PT15M'
    window: 'PT1H'
    dimensions: [
      gateway
      hostname
      reason
    ]
    query: loadTextContent('../queries/alerts/blocked.kql')
  }
  {
    name: 'cached-certificate'
    title: 'A gateway cannot read the vault and lives on a cached certificate: traffic stops on the date named'
    severity: 1
    frequency: 'PT15M'
    window: 'PT1H'
    dimensions: [
      gateway
      hostname
      trafficStops
    ]
    query: loadTextContent('../queries/alerts/cached-certificate.kql')
  }
  {
    name: 'expires-critical'
    title: 'A served certificate ends within ${criticalDays} days'
    severity: 0
    frequency: 'PT15M'
    window: 'PT6H'
    dimensions: [
      gateway
      hostname
    ]
    query: replace(loadTextContent('../queries/alerts/expires-critical.kql'), 'let to_days = 7.0;', 'let to_days = ${criticalDays}.0;')
  }
  {
    name: 'expires-soon'
    title: 'A served certificate ends within ${warningDays} days'
    severity: 2
    frequency: 'PT1H'
    window: 'PT6H'
    dimensions: [
      gateway
      hostname
    ]
    query: replace(replace(loadTextContent('../queries/alerts/expires-soon.kql'), 'let from_days = 7.0;', 'let from_days = ${criticalDays}.0;'), 'let to_days = 21.0;', 'let to_days = ${warningDays}.0;')
  }
  {
    name: 'unobserved'
    title: 'What a hostname serves could not be observed for an hour'
    severity: 2
    frequency: 'PT15M'
    window: 'PT1H'
    dimensions: [
      gateway
      hostname
      reason
    ]
    query: loadTextContent('../queries/alerts/unobserved.kql')
  }
  {
    name: 'heartbeat-missing'
    title: 'No pass of the timer for ${heartbeatMinutes} minutes'
    severity: 1
    frequency: 'PT15M'
    window: 'PT6H'
    dimensions: []
    query: replace(loadTextContent('../queries/alerts/heartbeat-missing.kql'), 'let most_minutes = 30;', 'let most_minutes = ${heartbeatMinutes};')
  }
  {
    name: 'inventory-shrank'
    title: 'There are fewer gateways or hostnames than a day ago'
    severity: 2
    frequency: 'PT15M'
    window: 'P1D'
    dimensions: []
    query: loadTextContent('../queries/alerts/inventory-shrank.kql')
  }
  {
    name: 'events-missed'
    title: 'Half of the rotations, or more, were caught by the timer and not by an event'
    severity: 3
    frequency: 'PT1H'
    window: 'P2D'
    dimensions: []
    query: loadTextContent('../queries/alerts/events-missed.kql')
  }
  {
    name: 'slow-rotation'
    title: 'A rotation took longer than ${objectiveMinutes} minutes'
    severity: 3
    frequency: 'PT15M'
    window: 'PT6H'
    dimensions: [
      gateway
      certificate
    ]
    query: replace(loadTextContent('../queries/alerts/slow-rotation.kql'), 'let objective_minutes = 120.0;', 'let objective_minutes = ${objectiveMinutes}.0;')
  }
]
var deployersRights = {
  type: 'None'
}
var rightsOfItsOwn = {
  type: 'UserAssigned'
  userAssignedIdentities: {
    '${identity.id}': {}
  }
}
var groups = empty(alertEmail) ? actionGroupIds : concat(actionGroupIds, [mail.id])

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmail)) {
  name: 'ag-rotation-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'cert-rotate'
    enabled: true
    emailReceivers: [
      {
        name: 'mail'
        emailAddress: alertEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' existing = if (!empty(workspaceName)) {
  name: empty(workspaceName) ? 'none' : workspaceName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = if (!empty(workspaceName)) {
  name: 'id-alerts-${token}'
  location: location
  tags: tags
}

resource mayQuery 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(workspaceName)) {
  name: guid(workspace.id, identity.id, logAnalyticsReader)
  scope: workspace
  properties: {
    principalId: identity!.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', logAnalyticsReader)
  }
}

resource alerts 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [for rule in rules: {
  name: 'rotation-${rule.name}-${token}'
  location: location
  kind: 'LogAlert'
  tags: tags
  identity: empty(workspaceName) ? deployersRights : rightsOfItsOwn
  properties: {
    displayName: rule.title
    description: '${rule.title}. What to do: ${runbooks}/${rule.name}.md'
    severity: rule.severity
    enabled: true
    autoMitigate: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: rule.frequency
    windowSize: rule.window
    // The tables do not exist before the first telemetry, nor is the role assignment known at once.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: rule.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: stuckMessages
          dimensions: rule.dimensions
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: groups
      customProperties: {
        runbook: '${runbooks}/${rule.name}.md'
      }
    }
  }
  dependsOn: [
    mayQuery
  ]
}]

resource queueStuck 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: 'rotation-messages-stuck-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Messages stay in the storage account for hours: nobody reads the queues of events or shards, or some are poison.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      '${storageAccountId}/queueServices/default'
    ]
    evaluationFrequency: 'PT1H'
    windowSize: 'PT6H'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'messages'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.Storage/storageAccounts/queueServices'
          metricName: 'QueueMessageCount'
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Average'
        }
      ]
    }
    actions: [for id in groups: {
      actionGroupId: id
    }]
    customProperties: {
      runbook: '${runbooks}/messages-stuck.md'
    }
  }
}

output actionGroupIds array = groups
