@description('ARM id of the system topic.')
param topicId string

@description('Name of the vault.')
param vaultName string

@description('Part of the names that makes them unique.')
param token string

@description('Action groups to call.')
param actionGroupIds array

@description('Where the runbooks can be read.')
param runbooks string

@description('Tags.')
param tags object

var actions = [for id in actionGroupIds: {
  actionGroupId: id
}]
var rules = [
  {
    name: 'events-dead-lettered'
    metric: 'DeadLetteredCount'
    severity: 2
    threshold: 0
    description: 'Event Grid gave up on an event of ${vaultName} and kept it as a dead letter. The timer mends what it announced.'
  }
  {
    name: 'events-dropped'
    metric: 'DroppedEventCount'
    severity: 2
    threshold: 0
    description: 'Event Grid gave up on an event of ${vaultName} and could not even keep it. The timer mends what it announced.'
  }
  {
    name: 'deliveries-failing'
    metric: 'DeliveryAttemptFailCount'
    severity: 3
    threshold: 5
    description: 'Deliveries of events of ${vaultName} keep failing. Event Grid repeats them for a day.'
  }
]

resource alerts 'Microsoft.Insights/metricAlerts@2026-01-01' = [for rule in rules: {
  name: 'rotation-${rule.name}-${vaultName}-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: rule.description
    severity: rule.severity
    enabled: true
    autoMitigate: true
    scopes: [
      topicId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: rule.name
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.EventGrid/systemTopics'
          metricName: rule.metric
          operator: 'GreaterThan'
          threshold: rule.threshold
          timeAggregation: 'Total'
        }
      ]
    }
    actions: actions
    customProperties: {
      runbook: '${runbooks}/${rule.name}.md'
    }
  }
}]
