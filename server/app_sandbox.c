/* What the running server may still do, once its addresses are taken and before its first thread begins. */
#include "server/app_parts.h"

#include "base/log.h"
#include "server/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef UPDRAFT_SANITIZED
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* --- the user ----------------------------------------------------------------------------------------------------- */

static void warn_unreadable(void *owner, const char *file)
{
    const struct config *config = owner;
    bool is_brokers = strcmp(file, config->mqtt_ca) == 0 || strcmp(file, config->mqtt_cert) == 0 ||
                      strcmp(file, config->mqtt_key) == 0;
    if (faccessat(AT_FDCWD, file, R_OK, AT_EACCESS) != 0) {
        LOG_EVENT(LOG_WARN, "not_read_again", "file", file, "why", strerror(errno), "user", config->user, "effect",
                  is_brokers ? "new connections to the broker cannot read it" : "SIGHUP cannot read it again", "remedy",
                  "let this user read it, and enter each folder on the way (chgrp, chmod 640; the folder 750)");
    }
}

int app_become_user(struct app *app)
{
    char message[CONFIG_TEXT_MAX + 256];
    if (app->config.user[0] != '\0') {
        if (sandbox_become(app->config.user, message, sizeof message) != STATUS_OK) {
            return app_say_error(message);
        }
        config_each_file(&app->config, warn_unreadable, &app->config);
    }
    sandbox_user_name(app->sandbox.user, sizeof app->sandbox.user); /* while /etc/passwd can be read */
    return 0;
}

/* --- files and ports
 * -------------------------------------------------------------------------------------------------------- */

#define DNS_PORT 53

/* Read by name lookups, while we run: systems put new files in the place of /etc/resolv.conf. */
static const char *const name_places[] = { "/etc", "/lib", "/lib64", "/usr/lib", "/usr/lib64" };

static const char *const trust_places[] = { "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates",
                                            "/usr/local/share/ca-certificates" };

/* The folder that a path lies in. */
static void allow_folder_of(struct sandbox_landlock *landlock, const char *path, enum sandbox_access access)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        strcpy(folder, ".");
    } else {
        slash[slash == folder] = '\0';
    }
    sandbox_landlock_allow(landlock, folder, access);
}

/* Its folder, since a new one is put in its place by rename; and the folder that it leads to, as a link. */
static void allow_file(void *owner, const char *file)
{
    char real[PATH_MAX];
    allow_folder_of(owner, file, SANDBOX_READ);
    if (realpath(file, real) != NULL) {
        allow_folder_of(owner, real, SANDBOX_READ);
    }
}

static void allow_all(struct sandbox_landlock *landlock, const char *const *places, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sandbox_landlock_allow(landlock, places[i], SANDBOX_READ);
    }
}

static void allow_broker(struct sandbox_landlock *landlock, const struct broker_url *url)
{
    struct in6_addr address;
    char real[PATH_MAX];
    sandbox_landlock_connect(landlock, url->port);
    bool by_name = inet_pton(AF_INET, url->host, &address) != 1 && inet_pton(AF_INET6, url->host, &address) != 1;
    if (by_name) {
        sandbox_landlock_connect(landlock, DNS_PORT); /* long answers come over TCP */
        allow_all(landlock, name_places, sizeof name_places / sizeof name_places[0]);
        if (realpath("/etc/resolv.conf", real) != NULL) {
            allow_folder_of(landlock, real, SANDBOX_READ);
        }
    }
    if (url->tls) {
        const char *file = getenv(X509_get_default_cert_file_env()), *dir = getenv(X509_get_default_cert_dir_env());
        allow_all(landlock, trust_places, sizeof trust_places / sizeof trust_places[0]);
        sandbox_landlock_allow(landlock, dir != NULL ? dir : X509_get_default_cert_dir(), SANDBOX_READ);
        allow_file(landlock, file != NULL ? file : X509_get_default_cert_file());
    }
}

/* Of /proc, our own folder alone. The descriptor keeps it in the kernel's memory: else it would be made anew some day,
 * and be another one to Landlock. */
static void allow_proc(struct sandbox_landlock *landlock)
{
    static int self = -1;
    self = self >= 0 ? self : open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sandbox_landlock_allow(landlock, "/proc/self", SANDBOX_READ);
}

static void allow_places(const struct app *app, struct sandbox_landlock *landlock)
{
    const struct config *config = &app->config;
    struct broker_url url;
    char why[300];
    sandbox_landlock_allow(landlock, config->repo, SANDBOX_WRITE); /* updraft firmware add, and rm */
    sandbox_landlock_allow(landlock, config->state, SANDBOX_WRITE);
    allow_folder_of(landlock, app->admin_socket, SANDBOX_SOCKET);
    for (size_t i = 0; i < config->sandbox_read.count; i++) {
        sandbox_landlock_allow(landlock, config->sandbox_read.texts[i], SANDBOX_READ);
    }
    config_each_file(config, allow_file, landlock);
    if (config->mqtt[0] != '\0' && broker_url_read(config->mqtt, &url, why, sizeof why) == STATUS_OK) {
        allow_broker(landlock, &url);
    }
    allow_proc(landlock);
    sandbox_landlock_allow(landlock, "/sys/devices/virtual/net", SANDBOX_READ); /* machine_address */
    sandbox_landlock_allow(landlock, "/etc/passwd", SANDBOX_READ);              /* the audit log's names of users */
    sandbox_landlock_allow(landlock, "/etc/nsswitch.conf", SANDBOX_READ);
    sandbox_landlock_allow(landlock, "/dev/null", SANDBOX_WRITE);
    sandbox_landlock_allow(landlock, "/dev/urandom", SANDBOX_READ);
    if (sanitized) {
        allow_file(landlock, "/proc/self/exe"); /* symbols of a complaint */
        sandbox_landlock_allow(landlock, "/usr", SANDBOX_READ);
    }
}

/* --- all together ------------------------------------------------------------------------------------------------- */

static void confine_files(const struct app *app, struct app_sandbox *state)
{
    struct sandbox_landlock landlock;
    if (!sanitized && !sandbox_is_one_thread()) { /* Landlock confines but the one that asks */
        snprintf(state->files_why, sizeof state->files_why, "another thread is running, and would be left out");
        return;
    }
    if (!sandbox_landlock_begin(&landlock)) {
        snprintf(state->files_why, sizeof state->files_why, "%s",
                 errno == ENOSYS       ? "the kernel (before 5.13), or a container's filter, has no Landlock"
                 : errno == EOPNOTSUPP ? "Landlock is off in this kernel (lsm=)"
                                       : strerror(errno));
        return;
    }
    state->abi = landlock.abi;
    allow_places(app, &landlock);
    int error = sandbox_landlock_enforce(&landlock);
    if (error != 0) {
        snprintf(state->files_why, sizeof state->files_why, "%s%s%s", landlock.failed,
                 landlock.failed[0] != '\0' ? ": " : "", strerror(error));
    }
}

static void begin_calls(const struct app *app, struct app_sandbox *state)
{
    if (sanitized && app->config.sandbox != CONFIG_SANDBOX_ON) {
        snprintf(state->calls_why, sizeof state->calls_why, "built with sanitizers, which make other calls");
        return;
    }
    int error = sandbox_calls_hide();
    if (error != 0) {
        snprintf(state->calls_why, sizeof state->calls_why, "%s", strerror(error));
    }
}

static void confine_calls(struct app_sandbox *state)
{
    int error = state->calls_why[0] == '\0' ? sandbox_calls_enforce() : 0;
    if (error != 0) {
        snprintf(state->calls_why, sizeof state->calls_why, "%s", strerror(error));
    }
}

/* Whether all of it is in force. */
static bool is_whole(const struct app_sandbox *state)
{
    return state->no_new_privileges && state->capabilities_why[0] == '\0' && state->files_why[0] == '\0' &&
           state->calls_why[0] == '\0';
}

void app_begin_sandbox(struct app *app)
{
    if (app->config.sandbox != CONFIG_SANDBOX_OFF) {
        app->sandbox.no_new_privileges = sandbox_no_new_privileges();
        begin_calls(app, &app->sandbox);
    }
}

int app_confine(struct app *app)
{
    struct app_sandbox *state = &app->sandbox;
    char message[600];
    if (app->config.sandbox == CONFIG_SANDBOX_OFF) {
        return 0;
    }
    (void)OPENSSL_init_ssl(0, NULL); /* reads its own configuration, while it can */
    int kept = sandbox_drop_capabilities();
    if (kept != 0) {
        snprintf(state->capabilities_why, sizeof state->capabilities_why, "%s", strerror(kept));
    }
    confine_files(app, state);
    confine_calls(state);
    if (app->config.sandbox != CONFIG_SANDBOX_ON || is_whole(state)) {
        return 0;
    }
    snprintf(message, sizeof message, "--sandbox on:%s%s%s%s%s%s%s: mend that, or take --sandbox auto",
             state->capabilities_why[0] != '\0' ? " capabilities: " : "", state->capabilities_why,
             state->files_why[0] != '\0' ? " Landlock: " : "", state->files_why,
             state->calls_why[0] != '\0' ? " seccomp: " : "", state->calls_why,
             state->no_new_privileges ? "" : " no_new_privs");
    return app_say_error(message);
}

static void say_confined(const struct app_sandbox *state)
{
    struct log_line line;
    log_begin(&line, is_whole(state) || sanitized ? LOG_INFO : LOG_WARN, "sandbox");
    log_text(&line, "user", state->user);
    log_text(&line, "no_new_privs", state->no_new_privileges ? "yes" : "no");
    if (state->capabilities_why[0] != '\0') {
        log_text(&line, "capabilities_why", state->capabilities_why);
    }
    log_text(&line, "seccomp", state->calls_why[0] == '\0' ? "yes" : "no");
    if (state->calls_why[0] != '\0') {
        log_text(&line, "seccomp_why", state->calls_why);
    }
    if (state->files_why[0] == '\0') {
        log_format(&line, "landlock", "abi%d", state->abi);
    } else {
        log_text(&line, "landlock", "no");
        log_text(&line, "landlock_why", state->files_why);
    }
    log_end(&line);
}

void app_say_sandbox(const struct app *app)
{
    if (app->config.sandbox != CONFIG_SANDBOX_OFF) {
        say_confined(&app->sandbox);
    } else {
        LOG_EVENT(LOG_INFO, "sandbox", "user", app->sandbox.user, "state", "off");
    }
    if (geteuid() == 0 && app->config.user[0] == '\0') {
        LOG_EVENT(LOG_WARN, "running_as_root", "remedy",
                  "give --user updraft, or another that may write to the state folder; --user root keeps it so");
    }
}
