/* The users whose passwords devices send: read at the start, and again on SIGHUP. As with the keys of images, without
 * the file that was asked for the server does not start, and a reload changes nothing. */
#include "server/app_parts.h"

#include "base/log.h"

enum status app_passwords_load(const struct app *app, const struct config *config, struct device_users **users,
                               char *message, size_t size)
{
    const struct device_users *before = password_checks_users(app->device_api.passwords);
    *users = NULL;
    return config->device_passwords[0] == '\0'
               ? STATUS_OK
               : device_users_load(config->device_passwords, before, users, message, size);
}

void app_passwords_use(struct app *app, struct device_users *users)
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
    struct device_users *users;
    app->device_api.passwords = password_checks_new(&app->loop);
    if (app->device_api.passwords == NULL) {
        return app_say_error("no memory, or no random numbers: close other programs");
    }
    if (app_passwords_load(app, &app->config, &users, message, sizeof message) != STATUS_OK) {
        return app_say_error(message);
    }
    app_passwords_use(app, users);
    return 0;
}
