/* updraftd: options, then the app. */
#include "fleet/store.h"
#include "server/app.h"
#include "server/app_signing.h"
#include "server/app_tls.h"
#include "server/audit_file.h"
#include "server/config.h"
#include "server/device_users.h"
#include "server/folders.h"
#include "server/sandbox.h"
#include "server/tokens.h"

#include <stdio.h>
#include <unistd.h>

static void say_doubt(void *owner, bool is_mistake, const char *text)
{
    int *exit_code = owner;
    fprintf(stderr, "updraftd: %s%s\n", is_mistake ? "" : "warning: ", text);
    *exit_code = is_mistake ? 1 : *exit_code;
}

/* What a start opens before it becomes its user. */
static enum status check_files(const struct config *config, char *message, size_t size)
{
    enum status status = STATUS_OK;
    if (config->tls_certs.count > 0) {
        struct tls *tls = NULL;
        status = app_tls_load(config, NULL, &tls, message, size);
        tls_free(tls);
    }
    if (status == STATUS_OK && config->device_passwords[0] != '\0') {
        struct device_users *users = NULL;
        status = device_users_load(config->device_passwords, NULL, &users, message, size);
        device_users_free(users);
    }
    if (status == STATUS_OK) {
        struct signature_keys *keys = NULL;
        status = app_signing_load(config, &keys, message, size);
        signature_keys_unref(keys);
    }
    return status;
}

/* What it opens as its user. */
static enum status check_folders(const struct config *config, char *message, size_t size)
{
    char path[CONFIG_TEXT_MAX + 32];
    enum status status = folders_check(config, message, size);
    if (status == STATUS_OK) {
        struct tokens *tokens = NULL;
        snprintf(path, sizeof path, "%s/tokens", config->state);
        status = tokens_load(path, &tokens, message, size);
        tokens_free(tokens);
    }
    if (status == STATUS_OK) {
        snprintf(path, sizeof path, "%s/audit.log", config->state);
        status = audit_file_check(path, message, size);
    }
    if (status == STATUS_OK && config->store != CONFIG_STORE_NONE && access(config->state, F_OK) == 0) {
        status = store_sqlite.check(config->state, message, size);
    }
    return status;
}

/* Whether a start would refuse, short of opening sockets: a server may be running. Makes and changes nothing. */
static int check(const struct config *config)
{
    char message[CONFIG_MESSAGE_MAX];
    int exit_code = 0;
    config_print(config, stdout);
    fflush(stdout);
    config_doubts(config, say_doubt, &exit_code);
    enum status status = check_files(config, message, sizeof message);
    if (status == STATUS_OK && config->user[0] != '\0') {
        status = sandbox_become(config->user, message, sizeof message);
    }
    if (status == STATUS_OK) {
        status = check_folders(config, message, sizeof message);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "updraftd: %s\n", message);
        exit_code = 1;
    }
    return exit_code;
}

int main(int argc, char **argv)
{
    struct config config;
    enum config_action action;
    char message[CONFIG_MESSAGE_MAX];
    if (config_read(&config, argc, argv, &action, message, sizeof message) != STATUS_OK) {
        fprintf(stderr, "updraftd: %s\n", message);
        config_close(&config);
        return 1;
    }
    int exit_code = 0;
    switch (action) {
    case CONFIG_HELP:
        config_print_help(stdout);
        break;
    case CONFIG_VERSION:
        printf("updraftd %s\n", UPDRAFT_VERSION);
        break;
    case CONFIG_CHECK:
        exit_code = check(&config);
        break;
    case CONFIG_RUN:
        return app_run(&config, argc, argv);
    }
    config_close(&config);
    return exit_code;
}
