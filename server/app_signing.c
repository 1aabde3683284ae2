/* The keys of the running server: read at the start, again on SIGHUP. Without those that were asked for it does not
 * start, and a reload changes nothing. */
#include "server/app_signing.h"

#include "base/file.h"
#include "base/log.h"
#include "server/app_parts.h"

#include <stdio.h>

#define KEY_FILE_MAX (64u << 10)

static const char *remedy_for(enum status status)
{
    return status == STATUS_DENIED ? "let the server's user read it; in a folder that the start did not know, restart "
                                     "the server, which confines itself (--sandbox)"
                                   : "name a PEM file that the server's user can read";
}

static enum status add_file(struct signature_keys *keys, const char *path, char *message, size_t size)
{
    char *pem = NULL, why[300];
    size_t n = 0;
    enum status status = file_read(path, KEY_FILE_MAX, &pem, &n);
    if (status != STATUS_OK) {
        snprintf(message, size, "--signing-key %s: %s: %s", path,
                 status == STATUS_INVALID ? "not a plain file" : status_text(status), remedy_for(status));
        return status;
    }
    if (!signature_keys_add(keys, (struct slice){ pem, n }, why, sizeof why)) {
        snprintf(message, size, "--signing-key %s: %s", path, why);
        status = STATUS_INVALID;
    }
    file_forget(pem, n); /* it may have been a private one, by mistake */
    return status;
}

enum status app_signing_load(const struct config *config, struct signature_keys **keys, char *message, size_t size)
{
    const struct config_list *files = &config->signing_keys;
    struct signature_keys *read = files->count > 0 ? signature_keys_new() : NULL;
    enum status status = STATUS_OK;
    if (files->count > 0 && read == NULL) {
        snprintf(message, size, "--signing-key: out of memory");
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < files->count && status == STATUS_OK; i++) {
        status = add_file(read, files->texts[i], message, size);
    }
    if (status == STATUS_OK) {
        *keys = read;
    } else {
        signature_keys_unref(read);
    }
    return status;
}

/* What counts from now on, once at each start and reload. */
static void say(const struct signature_keys *keys)
{
    for (size_t i = 0; i < signature_keys_count(keys); i++) {
        char text[SIGNATURE_KEY_TEXT];
        signature_key_text(keys, i, text);
        LOG_EVENT(LOG_INFO, "signatures_required", "key", text);
    }
}

int app_signing_open(struct app *app)
{
    char message[CONFIG_MESSAGE_MAX];
    if (app_signing_load(&app->config, &app->admin.signing_keys, message, sizeof message) != STATUS_OK) {
        return app_say_error(message);
    }
    say(app->admin.signing_keys);
    return 0;
}

void app_signing_use(struct app *app, struct signature_keys *keys)
{
    if (keys == NULL && app->admin.signing_keys != NULL) {
        log_event(LOG_WARN, "signatures_not_required", "remedy", "none, if --signing-key was taken away on purpose",
                  (char *)NULL);
    }
    signature_keys_unref(app->admin.signing_keys);
    app->admin.signing_keys = keys;
    say(keys);
    watch_use_keys(app->watch, keys);
}
