#include "cli/server_place.h"

#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSTEM_SOCKET "/run/updraft/admin.sock" /* as server/updraftd.service has it */

/* A variable that is set to nothing counts as not set: compose files pass such ones on. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool use_socket(struct server_place *place, const char *path, const char *source, char *message, size_t size)
{
    struct sockaddr_un address;
    if (!file_socket_name(path, address.sun_path, sizeof address.sun_path)) {
        snprintf(message, size,
                 "%s: a socket's path may have %zu bytes, and \"%s\" has %zu: go to its folder and name it from there",
                 source, sizeof address.sun_path - 1, path, strlen(path));
        return false;
    }
    return slice_copy(slice_of(address.sun_path), place->socket, sizeof place->socket);
}

static bool use_url(struct server_place *place, const char *url, const char *source, char *message, size_t size)
{
    struct slice rest = slice_of(url);
    bool known = slice_starts_with(rest, "http://") || slice_starts_with(rest, "https://");
    while (slice_ends_with(rest, "/")) {
        rest.len--;
    }
    const char *host = strstr(url, "://");
    bool plain = known && host[3] != '/' && host[3] != '\0' && strcspn(url, "?#@ \t\r\n") == strlen(url);
    if (!plain || !slice_copy(rest, place->url, sizeof place->url)) {
        snprintf(message, size, "%s: \"%.200s\" is no address of a server: write it as http://HOST:PORT", source, url);
        return false;
    }
    return true;
}

/* A byte that ends a header line would let a token write headers of its own. */
static bool use_token(struct server_place *place, struct slice token, const char *source, char *message, size_t size)
{
    token = slice_trim(token);
    for (size_t i = 0; i < token.len; i++) {
        if (token.at[i] <= ' ' || token.at[i] > '~') {
            snprintf(message, size, "%s: a token has neither blanks nor control bytes: copy it once more", source);
            return false;
        }
    }
    if (token.len == 0 || !slice_copy(token, place->token, sizeof place->token)) {
        snprintf(message, size, "%s: no token there: make one with \"updraft token new NAME\"", source);
        return false;
    }
    return true;
}

static bool use_token_file(struct server_place *place, const char *path, char *message, size_t size)
{
    char line[TOKEN_TEXT_MAX + 2] = "";
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        snprintf(message, size, "UPDRAFT_TOKEN_FILE: %s: %s: name a readable file that holds the token", path,
                 strerror(errno));
        return false;
    }
    bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    return use_token(place, read ? slice_of(line) : slice_of(""), "UPDRAFT_TOKEN_FILE", message, size);
}

static bool find_token(struct server_place *place, const struct args *args, char *message, size_t size)
{
    const char *flag = args_get(args, "token");
    const char *value = variable("UPDRAFT_TOKEN"), *file = variable("UPDRAFT_TOKEN_FILE");
    if (flag != NULL) {
        return use_token(place, slice_of(flag), "--token", message, size);
    }
    if (value != NULL && file != NULL) {
        snprintf(message, size, "UPDRAFT_TOKEN and UPDRAFT_TOKEN_FILE both give a token: unset one of them");
        return false;
    }
    if (value != NULL) {
        return use_token(place, slice_of(value), "UPDRAFT_TOKEN", message, size);
    }
    return file == NULL || use_token_file(place, file, message, size);
}

/* Where a server started in this folder has its socket; else, where nothing is there, the system's. Who may not look
 * into the system's folder is to hear that, rather than that no server runs here. */
static bool use_default(struct server_place *place, char *message, size_t size)
{
    char path[1024];
    const char *state = variable("UPDRAFT_STATE");
    snprintf(path, sizeof path, "%s/admin.sock", state != NULL ? state : "./state");
    if (access(path, F_OK) != 0 && errno == ENOENT && (access(SYSTEM_SOCKET, F_OK) == 0 || errno == EACCES)) {
        snprintf(path, sizeof path, "%s", SYSTEM_SOCKET);
    }
    return use_socket(place, path, "UPDRAFT_STATE", message, size);
}

bool server_place_find(struct server_place *place, const struct args *args, char *message, size_t size)
{
    const struct {
        const char *socket, *url, *socket_name, *url_name, *remedy;
    } ranks[] = {
        { args_get(args, "admin-socket"), args_get(args, "server"), "--admin-socket", "--server", "give one of them" },
        { variable("UPDRAFT_ADMIN_SOCKET"), variable("UPDRAFT_SERVER"), "UPDRAFT_ADMIN_SOCKET", "UPDRAFT_SERVER",
          "unset one of them, or say with --admin-socket or --server which is meant" },
    };
    memset(place, 0, sizeof *place);
    size_t i = ranks[0].socket != NULL || ranks[0].url != NULL ? 0 : 1;
    if (ranks[i].socket != NULL && ranks[i].url != NULL) {
        snprintf(message, size, "%s and %s name two servers: %s", ranks[i].socket_name, ranks[i].url_name,
                 ranks[i].remedy);
        return false;
    }
    if (ranks[i].url != NULL) {
        return use_url(place, ranks[i].url, ranks[i].url_name, message, size) && find_token(place, args, message, size);
    }
    if (args_has(args, "token")) {
        snprintf(message, size, "--token is for --server: the socket needs none");
        return false;
    }
    return ranks[i].socket != NULL ? use_socket(place, ranks[i].socket, ranks[i].socket_name, message, size)
                                   : use_default(place, message, size);
}
