/* A mistyped --repo must not become an empty repository that answers 404 to a fleet, so it is never made. */
#include "server/folders.h"

#include "base/text.h"
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* By errno. */
static enum status refuse(const struct config *config, const char *name, const char *path, const char *remedy,
                          char *message, size_t size)
{
    enum status status = status_from_errno(errno);
    const char *reason = strerror(errno);
    char blame[CONFIG_BLAME_MAX], shown[400];
    config_blame(config, name, blame, sizeof blame);
    text_show(slice_of(path), shown, sizeof shown);
    snprintf(message, size, "%s %s: %s: %s", blame, shown, reason, remedy);
    return status == STATUS_OK ? STATUS_IO : status;
}

static enum status check_repo(const struct config *config, char *message, size_t size)
{
    int repo = open(config->repo, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (repo < 0) {
        return refuse(config, "repo", config->repo,
                      errno == ENOENT ? "make the folder, or name the one with your images"
                                      : "make the folder readable, or name the one with your images",
                      message, size);
    }
    close(repo);
    return STATUS_OK;
}

/* One that is not there when the sandbox is made is not in it later, either. */
static enum status check_also_read(const struct config *config, char *message, size_t size)
{
    const struct config_list *list = &config->sandbox_read;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        int folder = open(list->texts[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (folder < 0) {
            status =
                refuse(config, "sandbox-read", list->texts[i],
                       "name a folder that is there and the server's user can read, or take this away", message, size);
        } else {
            close(folder);
        }
    }
    return status;
}

#define REMEDY_MAX (CONFIG_TEXT_MAX + 300)

/* By errno: what is to be done so that the folder can be made. */
static enum status refuse_new(const struct config *config, char *message, size_t size)
{
    char user[64], remedy[REMEDY_MAX];
    int error = errno;
    strcpy(remedy, "make its parent folder, or name another");
    if (error == EACCES) {
        sandbox_user_name(user, sizeof user);
        snprintf(remedy, sizeof remedy,
                 "the user %s may not make it there: `install -d -o %s -m 750 %s`, or name another", user, user,
                 config->state);
    }
    errno = error;
    return refuse(config, "state", config->state, remedy, message, size);
}

/* By errno: what is to be done where it is there. */
static enum status refuse_there(const struct config *config, const char *path, char *message, size_t size)
{
    char user[64], remedy[REMEDY_MAX];
    int error = errno;
    strcpy(remedy, "the server's user must be able to write there");
    if (error == EACCES) {
        sandbox_user_name(user, sizeof user);
        snprintf(remedy, sizeof remedy, "the server's user must be able to write there: `chown -R %s %s`", user,
                 config->state);
    }
    errno = error;
    return refuse(config, "state", path, remedy, message, size);
}

/* `file`: one in it that is kept open for writing; NULL = none. */
static enum status check_state(const struct config *config, const char *file, char *message, size_t size)
{
    char path[CONFIG_TEXT_MAX + 32];
    int state = open(config->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool usable = state >= 0 && faccessat(state, ".", W_OK | X_OK, AT_EACCESS) == 0;
    if (state >= 0 && !usable && errno == EROFS) { /* the store reads what is there, and says so */
        close(state);
        return STATUS_OK;
    }
    if (!usable) {
        enum status status = refuse_there(config, config->state, message, size);
        if (state >= 0) {
            close(state);
        }
        return status;
    }
    enum status status = STATUS_OK;
    if (file != NULL && faccessat(state, file, R_OK | W_OK, AT_EACCESS) != 0 && errno != ENOENT) {
        snprintf(path, sizeof path, "%s/%s", config->state, file);
        status = refuse_there(config, path, message, size);
    }
    close(state);
    return status;
}

/* Whether mkdir would make it. */
static enum status check_parent(const struct config *config, char *message, size_t size)
{
    char parent[CONFIG_TEXT_MAX + 1];
    snprintf(parent, sizeof parent, "%s", config->state);
    size_t n = strlen(parent);
    while (n > 1 && parent[n - 1] == '/') { /* behind its name */
        parent[--n] = '\0';
    }
    while (n > 0 && parent[n - 1] != '/') { /* its name */
        parent[--n] = '\0';
    }
    if (n == 0) {
        strcpy(parent, ".");
    }
    int folder = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool usable = folder >= 0 && faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) == 0;
    enum status status = usable ? STATUS_OK : refuse_new(config, message, size);
    if (folder >= 0) {
        close(folder);
    }
    return status;
}

enum status folders_prepare(const struct config *config, char *message, size_t size)
{
    enum status status = check_repo(config, message, size);
    status = status == STATUS_OK ? check_also_read(config, message, size) : status;
    if (status == STATUS_OK && mkdir(config->state, 0750) != 0 && errno != EEXIST) {
        status = refuse_new(config, message, size);
    }
    return status == STATUS_OK ? check_state(config, NULL, message, size) : status;
}

enum status folders_check(const struct config *config, char *message, size_t size)
{
    struct stat found;
    enum status status = check_repo(config, message, size);
    status = status == STATUS_OK ? check_also_read(config, message, size) : status;
    if (status != STATUS_OK) {
        return status;
    }
    bool is_there = lstat(config->state, &found) == 0 || errno != ENOENT;
    return is_there ? check_state(config, "lock", message, size) : check_parent(config, message, size);
}

enum status folders_lock(const struct config *config, char *message, size_t size)
{
    char path[CONFIG_TEXT_MAX + 16];
    snprintf(path, sizeof path, "%s/lock", config->state);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0 && (errno == EROFS || errno == ENOSPC || errno == EDQUOT)) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        fd = fd >= 0 ? fd : open(config->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return STATUS_OK;
    }
    if (fd >= 0 && errno == EWOULDBLOCK) {
        snprintf(message, size, "--state %s: another updraftd uses this folder: stop it, or give each its own",
                 config->state);
        return STATUS_BUSY;
    }
    snprintf(message, size, "--state %s: %s: %s: the server's user must be able to write there", config->state, path,
             strerror(errno));
    return STATUS_IO;
}
