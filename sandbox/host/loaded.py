# ruff: noqa: F401 -- to have them loaded is all that this is for
"""What a host loads, and the libraries of this project's app, for the process that hosts are forked from."""

import gc

import aiohttp.web
import azure.data.tables.aio
import azure.identity.aio
import azure.keyvault.certificates.aio
import azure.mgmt.apimanagement.aio
import azure.mgmt.resourcegraph.aio
import azure.monitor.opentelemetry.exporter
import cryptography.x509

import sandbox.host.__main__

# None of it is garbage, and what is never looked at stays shared with the forks.
gc.freeze()
