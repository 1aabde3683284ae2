/* What the server is doing, in JSON for the operator and in Prometheus' text. */
#include "server/admin_parts.h"

#include "server/password_checks.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- status ------------------------------------------------------------------------------------------------------- */

static const char *broker_state(const struct admin_api *api)
{
    return api->session == NULL ? "off" : session_state_word(session_view(api->session)->state);
}

json_t *admin_broker_json(const struct admin_api *api)
{
    const char *error = api->session != NULL ? session_view(api->session)->error : "no broker is configured";
    bool connected = api->session != NULL && session_view(api->session)->state == SESSION_CONNECTED;
    return json_pack("{s:s, s:o}", "state", broker_state(api), "error", admin_text(connected ? "" : error));
}

static json_t *mqtt_json(const struct admin_api *api)
{
    static const char *const protocols[] = { "", "3.1.1", "5" };
    char broker[300] = "";
    if (api->session == NULL) {
        return json_pack("{s:b, s:s}", "configured", 0, "state", "off");
    }
    const struct session_view *view = session_view(api->session);
    const struct publisher_counts *counts = publisher_counts(api->publisher);
    bool connected = view->state == SESSION_CONNECTED;
    broker_url_print(&api->broker, broker, sizeof broker);
    return json_pack(
        "{s:b, s:o, s:s, s:s, s:I, s:I, s:I, s:o, s:I, s:I, s:s}", "configured", 1, "broker", admin_text(broker),
        "state", broker_state(api), "protocol", connected ? protocols[view->version] : "", "since_s",
        (json_int_t)((uv_now(api->loop) - view->since_ms) / 1000), "attempts", (json_int_t)view->attempts, "connects",
        (json_int_t)view->connects, "error", admin_text(connected ? "" : view->error), "waiting",
        (json_int_t)counts->waiting, "in_flight", (json_int_t)counts->in_flight, "preset", api->trigger->announce.name);
}

static const char *url_source(enum public_url_kind kind)
{
    static const char *const words[] = { [PUBLIC_URL_CONFIGURED] = "configured",
                                         [PUBLIC_URL_USED] = "used",
                                         [PUBLIC_URL_LISTEN] = "listen",
                                         [PUBLIC_URL_MACHINE] = "machine",
                                         [PUBLIC_URL_UNKNOWN] = "unknown" };
    return words[kind];
}

static size_t rollouts_running(const struct admin_api *api)
{
    size_t running = 0;
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts); i++) {
        running += !rollout_is_over(rollouts_at(api->fleet->rollouts, i));
    }
    return running;
}

json_t *admin_store_json(const struct admin_api *api)
{
    const struct store_view *view = api->store != NULL ? store_queue_view(api->store) : NULL;
    static const char *const words[] = {
        [STORE_GOOD] = "good", [STORE_AILING] = "ailing", [STORE_FAILING] = "failing"
    };
    const char *state = view == NULL ? "off" : words[view->health];
    return json_pack("{s:s, s:o}", "state", state, "why", admin_text(view != NULL ? view->why : ""));
}

static json_t *store_figures_json(const struct admin_api *api)
{
    const struct store_view *view = api->store != NULL ? store_queue_view(api->store) : NULL;
    json_t *json = admin_store_json(api);
    json_object_set_new(json, "backlog", json_integer(view != NULL ? (json_int_t)view->backlog : 0));
    json_object_set_new(json, "written", json_integer(view != NULL ? (json_int_t)view->written : 0));
    json_object_set_new(json, "worst_ms", json_integer(view != NULL ? (json_int_t)view->worst_ms : 0));
    return json;
}

static json_t *devices_json(const struct devices *devices)
{
    return json_pack("{s:I, s:I, s:I}", "seen", (json_int_t)devices_seen(devices), "known",
                     (json_int_t)devices_count(devices), "dirty", (json_int_t)devices_dirty_count(devices));
}

void admin_get_status(struct admin_call *call)
{
    struct admin_api *api = call->api;
    struct public_url url;
    api->find_public_url(api->owner, &url);
    json_t *listeners = json_array();
    for (size_t i = 0; i < api->listener_count; i++) {
        json_array_append_new(listeners, admin_text(api->listeners[i]));
    }
    json_t *json = json_pack(
        "{s:s, s:o, s:I, s:b, s:o}", "version", UPDRAFT_VERSION, "started", admin_time(api->started_s), "uptime_s",
        (json_int_t)((uv_now(api->loop) - api->started_ms) / 1000), "ready", 1, "listeners", listeners);
    json_object_set_new(json, "public_url",
                        json_pack("{s:o, s:s, s:o}", "url", admin_text(url.url), "source", url_source(url.kind),
                                  "warning", admin_text(url.warning)));
    json_object_set_new(json, "repository",
                        json_pack("{s:o, s:I, s:I, s:I, s:I}", "path", admin_text(api->config->repo), "images",
                                  (json_int_t)catalog_image_count(api->catalog), "types",
                                  (json_int_t)catalog_type_count(api->catalog), "rejected",
                                  (json_int_t)catalog_rejection_count(api->catalog), "signing_keys",
                                  (json_int_t)signature_keys_count(api->signing_keys)));
    json_object_set_new(json, "mqtt", mqtt_json(api));
    json_object_set_new(json, "store", store_figures_json(api));
    json_object_set_new(json, "devices", devices_json(api->fleet->devices));
    json_object_set_new(json, "transfers", json_integer((json_int_t)api->device_http->transfers));
    json_object_set_new(json, "connections", json_integer((json_int_t)api->device_http->connections));
    json_object_set_new(json, "rollouts_running", json_integer((json_int_t)rollouts_running(api)));
    json_object_set_new(json, "notes", admin_notes_json(api));
    json_object_set_new(json, "warnings", admin_warnings_json(api, &url));
    admin_answer(call->answer, 200, json);
}

/* --- metrics ------------------------------------------------------------------------------------------------------ */

/* The second number of /proc/self/statm, in bytes. Memory, no disk: it does not block. */
static double resident_bytes(void)
{
    char line[128] = "";
    char *second = line;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fgets(line, sizeof line, file) != NULL) {
            second += strcspn(line, " ");
        }
        fclose(file);
    }
    return (double)strtoull(second, NULL, 10) * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return count > 3 ? (double)(count - 3) : 0; /* `.`, `..` and the folder itself */
}

static void gather_mqtt(const struct admin_api *api, struct metrics *metrics)
{
    if (api->session == NULL) {
        return;
    }
    const struct session_view *view = session_view(api->session);
    const struct publisher_counts *counts = publisher_counts(api->publisher);
    metrics->gauges[METRIC_GAUGE_MQTT_CONNECTED] = view->state == SESSION_CONNECTED;
    metrics->gauges[METRIC_GAUGE_MQTT_WAITING] = (double)counts->waiting;
    metrics->gauges[METRIC_GAUGE_MQTT_IN_FLIGHT] = (double)counts->in_flight;
    metrics->gauges[METRIC_GAUGE_MQTT_LEFT_BEHIND] = (double)view->left_behind;
    metrics->counters[METRIC_COUNT_MQTT_CONNECTS] = view->connects;
    metrics->counters[METRIC_COUNT_MQTT_RETRIED] = counts->retried;
    metrics->counters[METRIC_COUNT_MQTT_DROPPED] = session_dropped(api->session);
    memcpy(metrics->families[METRIC_COMMANDS], counts->results, sizeof counts->results);
    memcpy(metrics->families[METRIC_REPORTS], api->inbox->counts.results, sizeof api->inbox->counts.results);
}

static void gather_fleet(const struct admin_api *api, double *gauges)
{
    const struct store_view *view = api->store != NULL ? store_queue_view(api->store) : NULL;
    size_t in_flight = 0, window = 0;
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts); i++) {
        const struct rollout *rollout = rollouts_at(api->fleet->rollouts, i);
        if (!rollout_is_over(rollout)) {
            in_flight += rollout->in_flight;
            window += window_size(&rollout->window);
        }
    }
    gauges[METRIC_GAUGE_ROLLOUT_IN_FLIGHT] = (double)in_flight;
    gauges[METRIC_GAUGE_ROLLOUT_WINDOW] = (double)window;
    gauges[METRIC_GAUGE_ROLLOUTS] = (double)rollouts_running(api);
    gauges[METRIC_GAUGE_DEVICES] = (double)devices_count(api->fleet->devices);
    gauges[METRIC_GAUGE_DEVICES_SEEN] = (double)devices_seen(api->fleet->devices);
    gauges[METRIC_GAUGE_STORE_BACKLOG] = view != NULL ? (double)view->backlog : 0;
    gauges[METRIC_GAUGE_STORE_FAILING] = view != NULL && view->health == STORE_FAILING;
}

static void gather_tls(const struct admin_api *api, double *gauges)
{
    const char *file;
    if (api->tls != NULL) {
        gauges[METRIC_GAUGE_TLS_NOT_AFTER] = (double)tls_not_after(api->tls->tls, &file);
        gauges[METRIC_GAUGE_TLS_UNDER_WAY] = (double)api->tls->handshakes;
    }
}

static void gather_passwords(const struct admin_api *api, struct metrics *metrics)
{
    struct password_counts counts = password_checks_counts(api->device_api->passwords);
    metrics->gauges[METRIC_GAUGE_PASSWORDS_UNDER_WAY] = (double)counts.under_way;
    metrics->gauges[METRIC_GAUGE_PASSWORDS_WAITING] = (double)counts.waiting;
    metrics->counters[METRIC_COUNT_PASSWORDS] = counts.worked_out;
}

static void gather(const struct admin_api *api, struct metrics *metrics)
{
    double *gauges = metrics->gauges;
    gauges[METRIC_GAUGE_CONNECTIONS_OPEN] = (double)api->device_http->connections;
    gauges[METRIC_GAUGE_TRANSFERS_OPEN] = (double)api->device_http->transfers;
    gauges[METRIC_GAUGE_LOOP_BUSY] = api->loop_busy;
    gauges[METRIC_GAUGE_IMAGES] = (double)catalog_image_count(api->catalog);
    gauges[METRIC_GAUGE_TYPES] = (double)catalog_type_count(api->catalog);
    gauges[METRIC_GAUGE_REJECTED] = (double)catalog_rejection_count(api->catalog);
    gauges[METRIC_GAUGE_IMAGE_MEMORY] = (double)api->blobs->bytes_used;
    gauges[METRIC_GAUGE_RESIDENT] = resident_bytes();
    gauges[METRIC_GAUGE_DESCRIPTORS] = open_descriptors();
    gauges[METRIC_GAUGE_START] = (double)api->started_s;
    metrics->counters[METRIC_COUNT_CONNECTIONS] = api->device_http->accepted;
    metrics->counters[METRIC_COUNT_SCANS] = api->scans;
    metrics->counters[METRIC_COUNT_AUDIT_LOST] = api->audit != NULL ? audit_lost(api->audit) : 0;
    gauges[METRIC_GAUGE_AUDIT_FAILING] = api->audit != NULL && audit_trouble(api->audit) != NULL;
    gather_fleet(api, gauges);
    gather_tls(api, gauges);
    gather_passwords(api, metrics);
    gather_mqtt(api, metrics);
}

void admin_get_metrics(struct admin_call *call)
{
    gather(call->api, call->api->metrics);
    call->answer->body = metrics_text(call->api->metrics, UPDRAFT_VERSION, &call->answer->body_bytes);
    if (call->answer->body == NULL) {
        admin_refuse(call->answer, 503, "busy", "come again", "out of memory");
        return;
    }
    call->answer->status = 200;
    call->answer->content_type = "text/plain; version=0.0.4";
}
