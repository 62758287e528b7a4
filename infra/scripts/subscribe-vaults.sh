#!/usr/bin/env bash
# Subscribes every vault of a scope to the deployed app. To be run as often as you like: what is there stays as it is.
#
#   infra/scripts/subscribe-vaults.sh --subscription ID [--resource-group NAME] [--dry-run]
#
# Where the app is comes from the environment, as azd has it: eval "$(azd env get-values)" before, with `set -a`. Needed:
#   AZURE_FUNCTION_APP_ID, ROTATION_STORAGE_ACCOUNT_ID, ROTATION_DEAD_LETTER_CONTAINER, ROTATION_SUBSCRIPTION_NAME,
#   ROTATION_IDENTITY_PRINCIPAL_ID, and ROTATION_EVENT_QUEUE where events come through the queue.
# Whoever runs it needs EventGrid Contributor and User Access Administrator on the scope and on the storage account.
set -euo pipefail

MODULE=$(dirname "$0")/../modules/event-subscription.bicep
KEY_VAULT_READER=21090545-7ca7-4776-b22c-e363652d74d2
BLOB_DATA_CONTRIBUTOR=ba92f5b4-2d11-453d-a403-e96b0029c9fe
QUEUE_MESSAGE_SENDER=c6a89b2d-59bc-44d0-9896-0f6e12d7b80a

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

subscription='' group='' dry_run=''
while [ $# -gt 0 ]; do
    case $1 in
    --subscription) subscription=${2:?} && shift 2 ;;
    --resource-group) group=${2:?} && shift 2 ;;
    --dry-run) dry_run=yes && shift ;;
    *) usage ;;
    esac
done
[ -n "$subscription" ] || usage
: "${AZURE_FUNCTION_APP_ID:?}" "${ROTATION_STORAGE_ACCOUNT_ID:?}" "${ROTATION_DEAD_LETTER_CONTAINER:?}"
: "${ROTATION_SUBSCRIPTION_NAME:?}" "${ROTATION_IDENTITY_PRINCIPAL_ID:?}"
queue=${ROTATION_EVENT_QUEUE:-}

change() { # what changes something is only said with --dry-run
    if [ -n "$dry_run" ]; then
        echo "    would run: az $*"
    else
        az "$@" --output none
    fi
}

grant() { # principal, role, scope
    local found
    found=$(az role assignment list --assignee "$1" --role "$2" --scope "$3" --query "[0].id" --output tsv)
    [ -n "$found" ] || change role assignment create --assignee-object-id "$1" --assignee-principal-type ServicePrincipal \
        --role "$2" --scope "$3"
}

topic_of() { # vault id: prints name, resource group and principal of its system topic; ARM ids ignore case
    az eventgrid system-topic list --subscription "$subscription" \
        --query "[].[source, name, resourceGroup, identity.principalId]" --output tsv |
        awk -F '\t' -v id="$1" 'tolower($1) == tolower(id) { print $2 "\t" $3 "\t" $4 }'
}

subscribe() { # vault id, name, resource group, location
    local topic home principal
    IFS=$'\t' read -r topic home principal <<<"$(topic_of "$1")"
    if [ -z "${topic:-}" ]; then
        topic=rotation-$2 home=$3
        change eventgrid system-topic create --subscription "$subscription" --resource-group "$home" --name "$topic" \
            --location "$4" --topic-type Microsoft.KeyVault.vaults --source "$1" --identity systemassigned
        IFS=$'\t' read -r _ _ principal <<<"$(topic_of "$1")"
    fi
    if [ -z "${principal:-}" ] || [ "$principal" = None ]; then
        [ -n "$dry_run" ] || { echo "    topic $topic has no system-assigned identity: give it one, and run this again" >&2; return 1; }
        principal=THE-TOPIC
    fi
    grant "$principal" "$BLOB_DATA_CONTRIBUTOR" \
        "$ROTATION_STORAGE_ACCOUNT_ID/blobServices/default/containers/$ROTATION_DEAD_LETTER_CONTAINER"
    grant "$ROTATION_IDENTITY_PRINCIPAL_ID" "$KEY_VAULT_READER" "$1"

    local found
    found=$(az eventgrid system-topic event-subscription list --subscription "$subscription" --resource-group "$home" \
        --system-topic-name "$topic" --query "[?starts_with(name, '$ROTATION_SUBSCRIPTION_NAME')] | [0].name" --output tsv)
    if [ -n "$found" ]; then
        echo "    subscribed already"
        return
    fi
    [ -z "$queue" ] || grant "$principal" "$QUEUE_MESSAGE_SENDER" \
        "$ROTATION_STORAGE_ACCOUNT_ID/queueServices/default/queues/$queue"
    # By the template's own module: az has no options for identities on the subscriptions of a system topic.
    change deployment group create --subscription "$subscription" --resource-group "$home" --name "rotation-events-$2" \
        --template-file "$MODULE" --parameters "topicName=$topic" "name=$ROTATION_SUBSCRIPTION_NAME" \
        "siteId=$AZURE_FUNCTION_APP_ID" "storageAccountId=$ROTATION_STORAGE_ACCOUNT_ID" \
        "deadLetterContainer=$ROTATION_DEAD_LETTER_CONTAINER" "queueName=$queue"
}

vaults=$(az keyvault list --subscription "$subscription" ${group:+--resource-group "$group"} \
    --query "[].[id, name, resourceGroup, location]" --output tsv)
failed=0
while IFS=$'\t' read -r id name home location; do
    [ -n "$id" ] || continue
    echo "$name"
    subscribe "$id" "$name" "$home" "$location" </dev/null || failed=$((failed + 1))
done <<<"$vaults"
[ "$failed" -eq 0 ] || { echo "$failed vaults could not be subscribed" >&2; exit 1; }
echo "Vaults that ROTATION_VAULTS does not name stay out of scope: add them to KEY_VAULTS, or to that setting."
