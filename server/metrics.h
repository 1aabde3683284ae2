/* What is counted, and how Prometheus reads it: one list of counters, gauges and histograms; the text, the names and
 * the storage follow from it.
 *
 * Counting is one addition, on the loop. Gauges are set by whoever knows them when the text is asked for.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "mqtt/publisher.h"
#include "proto/device_report.h"
#include "proto/reason.h"
#include "server/http_conn.h"
#include "server/tls.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* Counters with one label whose values come from a list: X(NAME, "name", "label", COUNT, word_function, "help") */
#define METRIC_FAMILY_LIST(X)                                                                                          \
    X(CHECKS, "updraft_checks_total", "reason", REASON_COUNT, reason_word,                                             \
      "Requests for firmware by the reason of their answer.")                                                          \
    X(TRANSFERS, "updraft_transfers_total", "result", METRIC_TRANSFER_COUNT, metric_transfer_word,                     \
      "Images sent, by how it ended.")                                                                                 \
    X(COMMANDS, "updraft_mqtt_commands_total", "result", PUBLISH_RESULT_COUNT, publish_result_word,                    \
      "Commands by how they ended.")                                                                                   \
    X(REPORTS, "updraft_mqtt_reports_total", "result", REPORT_RESULT_COUNT, report_result_word,                        \
      "Messages from devices by what was made of them.")                                                               \
    X(ADMIN, "updraft_admin_requests_total", "class", METRIC_STATUS_COUNT, metric_status_word,                         \
      "Requests to the admin API by class of status.")                                                                 \
    X(REFUSED, "updraft_connections_refused_total", "why", HTTP_REFUSAL_COUNT, http_refusal_word,                      \
      "Connections closed unheard, of devices and of operators.")                                                      \
    X(TLS, "updraft_tls_handshakes_total", "result", TLS_HANDSHAKE_COUNT, tls_handshake_word,                          \
      "TLS handshakes by how they ended.")

/* Plain counters: X(NAME, "name", "help") */
#define METRIC_COUNTER_LIST(X)                                                                                         \
    X(IMAGE_BYTES, "updraft_image_bytes_total", "Bytes of images that devices acknowledged.")                          \
    X(CONNECTIONS, "updraft_connections_total", "Connections accepted.")                                               \
    X(MQTT_CONNECTS, "updraft_mqtt_connects_total", "Times the broker was connected.")                                 \
    X(MQTT_RETRIED, "updraft_mqtt_retried_total",                                                                      \
      "Messages sent again because the link broke before their acknowledgement.")                                      \
    X(MQTT_DROPPED, "updraft_mqtt_dropped_total",                                                                      \
      "Messages from devices dropped unread: too long, or too many waiting.")                                          \
    X(ADMIN_LOGINS_FAILED, "updraft_admin_logins_failed_total",                                                        \
      "Requests to the admin API over TCP with a token that is not known.")                                            \
    X(AUDIT_LOST, "updraft_audit_lost_total", "Acts of operators that the audit log lacks; the log has them.")         \
    X(PASSWORDS, "updraft_password_checks_total",                                                                      \
      "Passwords of devices worked out: those that were right before are not.")                                        \
    X(SCANS, "updraft_scans_total", "Catalogs published.")

/* X(NAME, "name", "help") */
#define METRIC_GAUGE_LIST(X)                                                                                           \
    X(CONNECTIONS_OPEN, "updraft_connections_open", "Connections of devices open now.")                                \
    X(TRANSFERS_OPEN, "updraft_transfers_in_flight", "Images being sent now.")                                         \
    X(LOOP_BUSY, "updraft_loop_busy_ratio", "Share of the last seconds in which the event loop worked (0 to 1).")      \
    X(MQTT_CONNECTED, "updraft_mqtt_connected", "1 while the broker is connected.")                                    \
    X(MQTT_WAITING, "updraft_mqtt_commands_waiting", "Commands that wait to be sent.")                                 \
    X(MQTT_IN_FLIGHT, "updraft_mqtt_messages_in_flight", "Messages sent and not acknowledged yet.")                    \
    X(MQTT_LEFT_BEHIND, "updraft_mqtt_left_behind", "Connections held whose end the MQTT library did not report.")     \
    X(IMAGES, "updraft_images", "Images that can be served.")                                                          \
    X(TYPES, "updraft_types", "Device types with a file in the repository.")                                           \
    X(REJECTED, "updraft_images_rejected", "Files meant as firmware that are not served.")                             \
    X(IMAGE_MEMORY, "updraft_image_memory_bytes", "Memory taken by the bytes of images.")                              \
    X(DEVICES, "updraft_devices", "Devices known.")                                                                    \
    X(DEVICES_SEEN, "updraft_devices_seen", "Devices that asked since the start.")                                     \
    X(ROLLOUTS, "updraft_rollouts_running", "Rollouts under way.")                                                     \
    X(ROLLOUT_IN_FLIGHT, "updraft_rollout_in_flight",                                                                  \
      "Devices that were told or let, and have not come back yet, of all rollouts under way.")                         \
    X(ROLLOUT_WINDOW, "updraft_rollout_window", "How many of them there may be, of all rollouts under way.")           \
    X(STORE_BACKLOG, "updraft_store_backlog", "Changes that wait to be written down.")                                 \
    X(STORE_FAILING, "updraft_store_failing", "1 while changes cannot be written down.")                               \
    X(AUDIT_FAILING, "updraft_audit_failing", "1 while the audit log cannot be written.")                              \
    X(TLS_NOT_AFTER, "updraft_tls_certificate_end_seconds",                                                            \
      "When the first certificate of ours or of an authority ends, seconds since 1970; 0 = no TLS.")                   \
    X(TLS_UNDER_WAY, "updraft_tls_handshakes_under_way", "TLS handshakes under way.")                                  \
    X(PASSWORDS_UNDER_WAY, "updraft_password_checks_under_way",                                                        \
      "Passwords of devices being worked out: one at a time.")                                                         \
    X(PASSWORDS_WAITING, "updraft_password_checks_waiting", "Requests that wait for a password to be worked out.")     \
    X(RESIDENT, "process_resident_memory_bytes", "Resident memory.")                                                   \
    X(DESCRIPTORS, "process_open_fds", "Open descriptors.")                                                            \
    X(START, "process_start_time_seconds", "Start of the process, seconds since 1970.")

/* X(NAME, "name", "help", upper bounds in seconds …) */
#define METRIC_HISTOGRAM_LIST(X)                                                                                       \
    X(TRANSFER_SECONDS, "updraft_transfer_seconds", "Duration of whole transfers.", 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, \
      120, 300)                                                                                                        \
    X(COMMAND_SECONDS, "updraft_mqtt_command_seconds",                                                                 \
      "From accepting a command to its acknowledgement by the broker.", 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30,  \
      120)

enum metric_transfer { METRIC_TRANSFER_WHOLE, METRIC_TRANSFER_CUT, METRIC_TRANSFER_NOT_LOADED, METRIC_TRANSFER_COUNT };
enum metric_status { METRIC_STATUS_2XX, METRIC_STATUS_4XX, METRIC_STATUS_5XX, METRIC_STATUS_COUNT };
const char *metric_transfer_word(enum metric_transfer result);
const char *metric_status_word(enum metric_status status);

enum metric_family {
#define X(name, ...) METRIC_##name,
    METRIC_FAMILY_LIST(X)
#undef X
        METRIC_FAMILY_COUNT
};
enum metric_counter {
#define X(name, ...) METRIC_COUNT_##name,
    METRIC_COUNTER_LIST(X)
#undef X
        METRIC_COUNTER_COUNT
};
enum metric_gauge {
#define X(name, ...) METRIC_GAUGE_##name,
    METRIC_GAUGE_LIST(X)
#undef X
        METRIC_GAUGE_COUNT
};
enum metric_histogram {
#define X(name, ...) METRIC_HISTOGRAM_##name,
    METRIC_HISTOGRAM_LIST(X)
#undef X
        METRIC_HISTOGRAM_COUNT
};

#define METRIC_LABELS_MAX  64 /* values of a family */
#define METRIC_BUCKETS_MAX 16

/* Zeroed before use; the loop's. */
struct metrics {
    uint64_t families[METRIC_FAMILY_COUNT][METRIC_LABELS_MAX];
    uint64_t counters[METRIC_COUNTER_COUNT];
    double gauges[METRIC_GAUGE_COUNT];
    struct {
        uint64_t buckets[METRIC_BUCKETS_MAX]; /* not cumulative here */
        uint64_t count;
        double sum;
    } histograms[METRIC_HISTOGRAM_COUNT];
};

static inline void metrics_count(struct metrics *metrics, enum metric_family family, unsigned label)
{
    assert(label < METRIC_LABELS_MAX);
    metrics->families[family][label]++;
}
void metrics_observe(struct metrics *metrics, enum metric_histogram histogram, double seconds);

/* The Prometheus text format, version 0.0.4, of everything; `version` for updraft_build_info. malloc'd, NUL-terminated;
 * NULL without memory. */
char *metrics_text(const struct metrics *metrics, const char *version, size_t *size);

#endif
