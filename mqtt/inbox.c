/* Topics and payloads from devices, turned into facts.
 *
 * What makes it hard: nothing, as long as the order stays: first whose topic it is, then what the payload says; each
 * message is counted once.
 */
#include "mqtt/inbox.h"

#include <assert.h>
#include <string.h>

void inbox_init(struct inbox *inbox, const char *status_topic, const char *online_topic, enum report_style style,
                device_fact_fn on_fact, void *owner)
{
    memset(inbox, 0, sizeof *inbox);
    inbox->status_topic = status_topic;
    inbox->online_topic = online_topic;
    inbox->style = style;
    inbox->on_fact = on_fact;
    inbox->owner = owner;
}

size_t inbox_filters(const struct inbox *inbox, char filters[2][SESSION_TOPIC_MAX + 1])
{
    const char *const topics[] = { inbox->status_topic, inbox->online_topic };
    size_t count = 0;
    for (size_t i = 0; i < 2; i++) {
        if (topics[i] != NULL) {
            bool fits = template_filter(topics[i], filters[count], SESSION_TOPIC_MAX + 1);
            assert(fits); /* template_check: shorter than the topics that it covers */
            count += count == 0 || strcmp(filters[0], filters[1]) != 0;
        }
    }
    return count;
}

static bool find_device(const struct inbox *inbox, struct slice topic, enum report_topic *kind,
                        struct template_match *device)
{
    if (inbox->status_topic != NULL && template_match(inbox->status_topic, topic, device)) {
        *kind = REPORT_TOPIC_STATUS;
        return true;
    }
    *kind = REPORT_TOPIC_ONLINE;
    return inbox->online_topic != NULL && template_match(inbox->online_topic, topic, device);
}

void inbox_take(struct inbox *inbox, const char *topic, const void *payload, size_t payload_bytes, bool retained)
{
    struct device_fact fact = { .retained = retained };
    enum report_topic kind;
    enum report_result result = REPORT_RESULT_BAD_NAME;
    if (find_device(inbox, slice_of(topic), &kind, &fact.device)) {
        result = device_report_read(inbox->style, kind, payload, payload_bytes, &fact.report);
    }
    inbox->counts.results[result]++;
    if (result == REPORT_RESULT_OK) {
        inbox->on_fact(inbox->owner, &fact);
    }
}
