/* status: how the server is, on one screen; what someone should look at stands last. */
#include "cli/shown.h"
#include "cli/verb.h"

#include <inttypes.h>
#include <string.h>

static const struct flag flags[] = { COMMON_FLAGS };

static void print_line(const char *label, const char *text)
{
    printf("%-12s", label);
    shown_wrapped(stdout, text, 12, 12, shown_width(stdout));
    putchar('\n');
}

static void print_lines(const char *label, const json_t *lines)
{
    const json_t *line;
    size_t i;
    json_array_foreach(lines, i, line)
    {
        print_line(label, json_is_string(line) ? json_string_value(line) : "");
    }
}

static void print_listeners(const json_t *reply)
{
    const json_t *listener;
    size_t i;
    json_array_foreach(json_object_get(reply, "listeners"), i, listener)
    {
        print_line(i == 0 ? "listening" : "", json_is_string(listener) ? json_string_value(listener) : "");
    }
}

static void print_public_url(const json_t *public_url)
{
    static const struct {
        const char *source, *words;
    } sources[] = {
        { "configured", "as configured" },
        { "used", "the address that devices use" },
        { "listen", "from --listen" },
        { "machine", "an address of this machine" },
    };
    char text[1200];
    const char *url = field_text(public_url, "url"), *source = field_text(public_url, "source");
    if (strcmp(source, "listen") == 0 && strncmp(url, "https:", 6) == 0) {
        source = "from --tls-listen";
    }
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        source = strcmp(source, sources[i].source) == 0 ? sources[i].words : source;
    }
    snprintf(text, sizeof text, "%s (%s)", url[0] != '\0' ? url : "none", source);
    print_line("public URL", text);
}

static void print_mqtt(const json_t *mqtt)
{
    char text[1200], since[SHOWN_SIZE];
    if (!field_true(mqtt, "configured")) {
        print_line("MQTT", "off: devices are served when they ask; --mqtt URL of updraftd names a broker");
        return;
    }
    const char *protocol = field_text(mqtt, "protocol"), *error = field_text(mqtt, "error");
    snprintf(text, sizeof text, "%s: %s for %s%s%s%s%s", field_text(mqtt, "broker"), field_text(mqtt, "state"),
             shown_age(field_number(mqtt, "since_s"), since), protocol[0] != '\0' ? ", MQTT " : "", protocol,
             error[0] != '\0' ? "; " : "", error);
    print_line("MQTT", text);
    snprintf(text, sizeof text, "%" PRIu64 " commands waiting, %" PRIu64 " in flight, topics of %s",
             field_number(mqtt, "waiting"), field_number(mqtt, "in_flight"), field_text(mqtt, "preset"));
    print_line("", text);
}

/* How many devices are remembered, and whether what is learnt of them is written down. */
static void print_fleet(const json_t *devices, const json_t *store)
{
    char text[1200];
    size_t used =
        (size_t)snprintf(text, sizeof text, "%" PRIu64 " seen since the start", field_number(devices, "seen"));
    if (json_object_get(devices, "known") != NULL) {
        snprintf(text + used, sizeof text - used, ", %" PRIu64 " known", field_number(devices, "known"));
    }
    print_line("devices", text);
    if (json_is_object(store)) {
        const char *why = field_text(store, "why");
        snprintf(text, sizeof text, "%s%s%s, %" PRIu64 " changes to be written", field_text(store, "state"),
                 why[0] != '\0' ? ": " : "", why, field_number(store, "backlog"));
        print_line("store", text);
    }
}

static void print_status(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    char text[1200], a[SHOWN_SIZE], b[SHOWN_SIZE];
    const json_t *repository = json_object_get(reply, "repository");
    snprintf(text, sizeof text, "%s, %s, up %s since %s", field_text(reply, "version"),
             field_true(reply, "ready") ? "ready" : "not ready yet", shown_age(field_number(reply, "uptime_s"), a),
             field_text(reply, "started"));
    print_line("updraftd", text);
    print_listeners(reply);
    print_public_url(json_object_get(reply, "public_url"));
    snprintf(text, sizeof text, "%s: %s of %s, %" PRIu64 " rejected", field_text(repository, "path"),
             shown_count(field_number(repository, "images"), "image", a),
             shown_count(field_number(repository, "types"), "type", b), field_number(repository, "rejected"));
    print_line("repository", text);
    if (field_number(repository, "signing_keys") > 0) {
        snprintf(text, sizeof text, "every image must have one, by %s",
                 field_number(repository, "signing_keys") == 1
                     ? "the one key known"
                     : shown_count(field_number(repository, "signing_keys"), "key", a));
        print_line("signature", text);
    }
    print_mqtt(json_object_get(reply, "mqtt"));
    print_fleet(json_object_get(reply, "devices"), json_object_get(reply, "store"));
    snprintf(text, sizeof text, "%s, %s, %s under way",
             shown_count(field_number(reply, "connections"), "connection", a),
             shown_count(field_number(reply, "transfers"), "transfer", b),
             shown_count(field_number(reply, "rollouts_running"), "rollout", (char[SHOWN_SIZE]){ 0 }));
    print_line("now", text);
    print_lines("note", json_object_get(reply, "notes"));
    print_lines("warning", json_object_get(reply, "warnings"));
}

static enum cli_exit run(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, "/api/v1/status");
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_status);
}

const struct verb verb_status = {
    .name = "status",
    .words = "",
    .flags = flags,
    .summary = "how the server is: addresses, repository, broker, warnings",
    .more = "",
    .run = run,
};
