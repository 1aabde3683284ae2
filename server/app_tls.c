/* The certificates of the running server: read at the start, again on SIGHUP, and looked at once a day for their end.
 */
#include "server/app_tls.h"

#include "base/log.h"
#include "server/app_parts.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_S 86400

enum status app_tls_load(const struct config *config, const struct tls *before, struct tls **tls, char *message,
                         size_t size)
{
    struct tls_settings settings = {
        .count = config->tls_certs.count,
        .client_ca = config->tls_client_ca,
        .client = config->tls_client_ca[0] == '\0'                   ? TLS_CLIENT_NONE
                  : config->tls_client == CONFIG_TLS_CLIENT_OPTIONAL ? TLS_CLIENT_OPTIONAL
                                                                     : TLS_CLIENT_REQUIRED,
        .ciphers = config->tls_ciphers,
        .record_bytes = config->tls_record_bytes,
    };
    for (size_t i = 0; i < settings.count; i++) {
        settings.certs[i] = config->tls_certs.texts[i];
        settings.keys[i] = config->tls_keys.texts[i];
    }
    return tls_load(&settings, before, tls, message, size);
}

/* Once at each start and reload, and once a day: an operator has a month to see it. */
static void warn_of_end(struct app *app, int64_t now_s)
{
    const char *file;
    char date[32];
    struct tm tm;
    time_t end_s = (time_t)tls_not_after(app->tls_room.tls, &file);
    app->tls_warned_s = now_s;
    if (end_s - now_s >= TLS_WARN_BEFORE_S) {
        return;
    }
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end_s, &tm));
    struct log_line line;
    log_begin(&line, end_s <= now_s ? LOG_ERROR : LOG_WARN, end_s <= now_s ? "tls_expired" : "tls_expires");
    log_text(&line, "file", file);
    log_text(&line, "at", date);
    log_number(&line, "days", (end_s - now_s) / DAY_S);
    log_text(&line, "remedy", "put a new certificate in its place, and send SIGHUP");
    log_end(&line);
}

int app_tls_open(struct app *app)
{
    char message[CONFIG_MESSAGE_MAX];
    struct tls *tls;
    if (app->config.tls_listen.count == 0) {
        return 0;
    }
    if (app_tls_load(&app->config, NULL, &tls, message, sizeof message) != STATUS_OK) {
        return app_say_error(message);
    }
    tls_room_init(&app->tls_room, &app->loop, tls, (size_t)app->config.tls_handshakes_max);
    app->tls_room.counts = app->metrics.families[METRIC_TLS];
    app->has_tls = true;
    app->admin.tls = &app->tls_room;
    warn_of_end(app, time(NULL));
    return 0;
}

void app_tls_reload(struct app *app)
{
    char message[CONFIG_MESSAGE_MAX];
    struct tls *tls;
    if (!app->has_tls) {
        return;
    }
    app->tls_room.handshakes_max = (size_t)app->config.tls_handshakes_max;
    if (app_tls_load(&app->config, app->tls_room.tls, &tls, message, sizeof message) != STATUS_OK) {
        LOG_EVENT(LOG_ERROR, "tls_reload_failed", "why", message, "remedy", "the certificates before stay in effect");
        return;
    }
    tls_room_use(&app->tls_room, tls);
    warn_of_end(app, time(NULL));
}

void app_tls_tick(struct app *app)
{
    int64_t now_s = time(NULL);
    if (!app->has_tls) {
        return;
    }
    tls_rotate(app->tls_room.tls, now_s);
    if (now_s - app->tls_warned_s >= DAY_S || now_s < app->tls_warned_s) {
        warn_of_end(app, now_s);
    }
}
