/* What devices say over MQTT, turned into facts for its owner. Every topic and payload is hostile until read; what is
 * no report is counted by reason and dropped. Status and online messages sharpen what check-ins say; nothing ever
 * depends on them. The loop's.
 */
#ifndef MQTT_INBOX_H
#define MQTT_INBOX_H

#include "mqtt/session.h"
#include "proto/announce.h"
#include "proto/device_report.h"
#include "proto/template.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device_fact {
    struct template_match device; /* borrowed: type, mac or its tail */
    bool retained;                /* not new */
    struct device_report report;
};

typedef void (*device_fact_fn)(void *owner, const struct device_fact *fact);

struct inbox_counts {
    uint64_t results[REPORT_RESULT_COUNT];
};

struct inbox {
    const char *status_topic, *online_topic; /* templates; NULL = none; borrowed */
    enum report_style style;
    device_fact_fn on_fact;
    void *owner;
    struct inbox_counts counts;
};

void inbox_init(struct inbox *inbox, const char *status_topic, const char *online_topic, enum report_style style,
                device_fact_fn on_fact, void *owner);

/* The subscriptions that the session is to make: writes up to two filters. Returns how many. */
size_t inbox_filters(const struct inbox *inbox, char filters[2][SESSION_TOPIC_MAX + 1]);

/* A message of a subscription. */
void inbox_take(struct inbox *inbox, const char *topic, const void *payload, size_t payload_bytes, bool retained);

#endif
