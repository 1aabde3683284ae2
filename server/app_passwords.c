/* The users whose passwords devices send: read at the start, and again on SIGHUP. */
#include "server/app_parts.h"

#include "base/log.h"

static void use(struct app *app, struct device_users *users)
{
    bool had = password_checks_users(app->device_api.passwords) != NULL;
    struct log_line line;
    if (users != NULL) {
        log_begin(&line, LOG_INFO, "device_passwords");
        log_number(&line, "users", (int64_t)device_users_count(users));
        log_text(&line, "types", device_users_cover(users, slice_of("")) ? "all" : "those named");
        log_end(&line);
    } else if (had) {
        LOG_EVENT(LOG_WARN, "device_passwords", "users", "none", "why", "no file is named: nobody needs a password");
    }
    password_checks_use(app->device_api.passwords, users);
}

int app_passwords_open(struct app *app)
{
    char message[CONFIG_MESSAGE_MAX];
    struct device_users *users = NULL;
    app->device_api.passwords = password_checks_new(&app->loop);
    if (app->device_api.passwords == NULL) {
        return app_say_error("no memory, or no random numbers: close other programs");
    }
    if (app->config.device_passwords[0] == '\0') {
        return 0;
    }
    if (device_users_load(app->config.device_passwords, NULL, &users, message, sizeof message) != STATUS_OK) {
        return app_say_error(message);
    }
    use(app, users);
    return 0;
}

void app_passwords_reload(struct app *app)
{
    char message[CONFIG_MESSAGE_MAX];
    struct device_users *before = password_checks_users(app->device_api.passwords), *users = NULL;
    bool named = app->config.device_passwords[0] != '\0';
    if (named &&
        device_users_load(app->config.device_passwords, before, &users, message, sizeof message) != STATUS_OK) {
        LOG_EVENT(LOG_ERROR, "device_passwords_failed", "why", message, "remedy",
                  before != NULL ? "the users before stay in effect"
                                 : "nobody needs a password until the file can be read: correct it, and send SIGHUP");
        return;
    }
    use(app, users);
}
