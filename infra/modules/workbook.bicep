@description('Name of the workbook: a GUID.')
param name string

@description('Region.')
param location string

@description('Name of the environment, for the title.')
param environmentName string

@description('ARM id of the workspace.')
param workspaceId string

@description('Tags.')
param tags object

var items = [
  {
    type: 1
    name: 'about-fleet'
    content: {
      json: '## Fleet now'
    }
  }
  {
    type: 3
    name: 'status-now'
    customWidth: '30'
    content: {
      version: 'KqlItem/1.0'
      title: 'Hostnames by status'
      query: loadTextContent('../queries/workbook/status-now.kql')
      size: 0
      timeContext: {
        durationMs: 3600000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'piechart'
    }
  }
  {
    type: 3
    name: 'fleet-now'
    customWidth: '70'
    content: {
      version: 'KqlItem/1.0'
      title: 'Every hostname, by its newest verification'
      query: loadTextContent('../queries/fleet-now.kql')
      size: 0
      timeContext: {
        durationMs: 3600000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 1
    name: 'about-problems'
    content: {
      json: '## What needs somebody'
    }
  }
  {
    type: 3
    name: 'drift'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Drift: an old version is served past the deadline'
      query: loadTextContent('../queries/alerts/drift.kql')
      size: 0
      timeContext: {
        durationMs: 3600000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 3
    name: 'blocked'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Blocked, with the reason'
      query: loadTextContent('../queries/alerts/blocked.kql')
      size: 0
      timeContext: {
        durationMs: 3600000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 3
    name: 'cached-certificate'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Gateways on a cached certificate, and when traffic stops'
      query: loadTextContent('../queries/alerts/cached-certificate.kql')
      size: 0
      timeContext: {
        durationMs: 3600000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 3
    name: 'unobserved'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Not observed for an hour'
      query: loadTextContent('../queries/alerts/unobserved.kql')
      size: 0
      timeContext: {
        durationMs: 3600000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 3
    name: 'rotation-failed'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Refused or exhausted'
      query: loadTextContent('../queries/alerts/rotation-failed.kql')
      size: 0
      timeContext: {
        durationMs: 172800000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 1
    name: 'about-rotations'
    content: {
      json: '## Rotations'
    }
  }
  {
    type: 3
    name: 'time-to-served'
    customWidth: '50'
    content: {
      version: 'KqlItem/1.0'
      title: 'Minutes from new version to proof: median and 95th percentile by day'
      query: loadTextContent('../queries/workbook/time-to-served.kql')
      size: 0
      timeContext: {
        durationMs: 2592000000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'timechart'
    }
  }
  {
    type: 3
    name: 'caught-by'
    customWidth: '50'
    content: {
      version: 'KqlItem/1.0'
      title: 'Caught by'
      query: loadTextContent('../queries/workbook/caught-by.kql')
      size: 0
      timeContext: {
        durationMs: 2592000000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'barchart'
    }
  }
  {
    type: 3
    name: 'rotations'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Every rotation'
      query: loadTextContent('../queries/workbook/rotations.kql')
      size: 0
      timeContext: {
        durationMs: 2592000000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 3
    name: 'syncs'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Answers to syncs'
      query: loadTextContent('../queries/syncs.kql')
      size: 0
      timeContext: {
        durationMs: 604800000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 3
    name: 'changes'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Changes of verdicts'
      query: loadTextContent('../queries/workbook/changes.kql')
      size: 0
      timeContext: {
        durationMs: 604800000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 1
    name: 'about-expiry'
    content: {
      json: '## Expiry calendar, 90 days'
    }
  }
  {
    type: 3
    name: 'expiry-calendar'
    customWidth: '100'
    content: {
      version: 'KqlItem/1.0'
      title: 'Served certificates by the day on which they end'
      query: loadTextContent('../queries/workbook/expiry-calendar.kql')
      size: 0
      timeContext: {
        durationMs: 86400000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 1
    name: 'about-health'
    content: {
      json: '## Health of events and runs'
    }
  }
  {
    type: 3
    name: 'runs'
    customWidth: '50'
    content: {
      version: 'KqlItem/1.0'
      title: 'Passes of the timer by hour'
      query: loadTextContent('../queries/runs.kql')
      size: 0
      timeContext: {
        durationMs: 86400000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
  {
    type: 3
    name: 'availability'
    customWidth: '50'
    content: {
      version: 'KqlItem/1.0'
      title: 'Proven share by hostname and region'
      query: loadTextContent('../queries/workbook/availability.kql')
      size: 0
      timeContext: {
        durationMs: 604800000
      }
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      visualization: 'table'
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: name
  location: location
  kind: 'shared'
  tags: tags
  properties: {
    displayName: 'Gateway certificates (${environmentName})'
    category: 'workbook'
    sourceId: workspaceId
    version: '1.0'
    serializedData: string({
      version: 'Notebook/1.0'
      items: items
      fallbackResourceIds: [
        workspaceId
      ]
    })
  }
}

output id string = workbook.id
