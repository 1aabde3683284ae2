#include "cli/api_client.h"

#include "base/buf.h"
#include "cli/shown.h"

#include <curl/curl.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define REPLY_BYTES_MAX    (64u << 20)
#define CONNECT_TIMEOUT_MS 5000L
#define CALL_TIMEOUT_MS    30000L
#define STALL_TIMEOUT_S    60L /* an upload ends when its image is served: that includes the server's checks */
#define PAGE_SIZE          1000
#define PAGES_MAX          10000 /* against a server whose total never comes */

struct api_client {
    CURL *curl;
    struct server_place place;
    struct curl_slist *headers;
    struct buf body;
    struct api_problem problem;
    char curl_error[CURL_ERROR_SIZE];
    long patience_ms;
    api_stop_fn stop;
    void *stop_owner;
    api_progress_fn progress; /* of the call under way */
    void *progress_owner;
};

/* --- libcurl ------------------------------------------------------------------------------------------------------ */

static size_t on_body(char *bytes, size_t size, size_t n, void *owner)
{
    struct api_client *api = owner;
    return buf_add(&api->body, bytes, size * n) ? size * n : 0;
}

static int on_progress(void *owner, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    (void)down_total;
    (void)down;
    struct api_client *api = owner;
    if (api->progress != NULL && up_total > 0) {
        api->progress(api->progress_owner, (uint64_t)up, (uint64_t)up_total);
    }
    return api->stop != NULL && api->stop(api->stop_owner) ? 1 : 0;
}

static void add_header(struct api_client *api, const char *header)
{
    api->headers = must(curl_slist_append(api->headers, header));
}

struct api_client *api_client_new(const struct server_place *place)
{
    struct api_client *api = must(calloc(1, sizeof *api));
    api->place = *place;
    api->patience_ms = CALL_TIMEOUT_MS;
    buf_init(&api->body, REPLY_BYTES_MAX);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    api->curl = must(curl_easy_init());
    add_header(api, "Accept: application/json");
    add_header(api, "Expect:"); /* no waiting for "100 Continue" before a body */
    if (place->token[0] != '\0') {
        char header[TOKEN_TEXT_MAX + 32];
        snprintf(header, sizeof header, "Authorization: Bearer %s", place->token);
        add_header(api, header);
    }
    return api;
}

void api_client_free(struct api_client *api)
{
    if (api == NULL) {
        return;
    }
    curl_easy_cleanup(api->curl);
    curl_slist_free_all(api->headers);
    json_decref(api->problem.document);
    buf_close(&api->body);
    free(api);
    curl_global_cleanup();
}

const struct api_problem *api_problem(const struct api_client *api)
{
    return &api->problem;
}

void api_set_patience(struct api_client *api, long ms)
{
    api->patience_ms = ms;
}

void api_set_stop(struct api_client *api, api_stop_fn stop, void *owner)
{
    api->stop = stop;
    api->stop_owner = owner;
}

/* --- paths -------------------------------------------------------------------------------------------------------- */

static void path_add(struct api_path *path, const char *text, const char *unescaped)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text != '\0'; text++) {
        bool as_is = strchr(plain, *text) != NULL || strchr(unescaped, *text) != NULL;
        size_t n = as_is ? 1 : 3;
        if (path->used + n >= sizeof path->text) {
            path->cut = true;
            return;
        }
        if (as_is) {
            path->text[path->used] = *text;
        } else {
            snprintf(path->text + path->used, 4, "%%%02X", (unsigned char)*text);
        }
        path->used += n;
        path->text[path->used] = '\0';
    }
}

void api_path_begin(struct api_path *path, const char *start)
{
    memset(path, 0, sizeof *path);
    path_add(path, start, "/");
}

void api_path_name(struct api_path *path, const char *name)
{
    path_add(path, "/", "/");
    path_add(path, name, "/");
}

void api_path_query(struct api_path *path, const char *key, const char *value)
{
    if (value == NULL) {
        return;
    }
    path_add(path, strchr(path->text, '?') == NULL ? "?" : "&", "?&");
    path_add(path, key, "");
    path_add(path, "=", "=");
    path_add(path, value, "");
}

/* --- what went wrong ---------------------------------------------------------------------------------------------- */

static void say(struct api_client *api, const char *code, const char *message, const char *remedy)
{
    snprintf(api->problem.code, sizeof api->problem.code, "%s", code);
    snprintf(api->problem.message, sizeof api->problem.message, "%s", message);
    snprintf(api->problem.remedy, sizeof api->problem.remedy, "%s", remedy);
}

static enum api_result say_gone(struct api_client *api, const char *why, const char *remedy)
{
    char message[sizeof api->problem.message];
    bool local = api->place.url[0] == '\0';
    snprintf(message, sizeof message, "no server at %s%s: %s", local ? "the socket " : "",
             local ? api->place.socket : api->place.url, why);
    say(api, "no-server", message, remedy);
    return API_GONE;
}

/* Names the group that may use the socket, where that can be seen. */
static void socket_remedy(const char *path, char *remedy, size_t size)
{
    struct stat status;
    const struct group *group = stat(path, &status) == 0 ? getgrgid(status.st_gid) : NULL;
    if (group != NULL) {
        snprintf(remedy, size,
                 "the socket is for the group %s: \"sudo usermod -aG %s $USER\" and a new login, or use sudo",
                 group->gr_name, group->gr_name);
    } else {
        snprintf(remedy, size, "join the group that updraftd runs as, or use sudo; \"ls -l\" of its folder names it");
    }
}

static enum api_result socket_failed(struct api_client *api, CURLcode code)
{
    static const struct {
        int error;
        const char *remedy;
    } remedies[] = {
        { ENOENT, "start updraftd, or name its socket with --admin-socket PATH (it is STATE/admin.sock), or a server "
                  "with --server URL" },
        { ECONNREFUSED, "updraftd has ended without removing it: start updraftd" },
        { ENOTSOCK, "that is no socket: name updraftd's, which is STATE/admin.sock" },
        { EAGAIN, "updraftd takes no connections at the moment: look at its log" },
    };
    long error = 0;
    curl_easy_getinfo(api->curl, CURLINFO_OS_ERRNO, &error);
    if (code != CURLE_COULDNT_CONNECT || error == 0) {
        return say_gone(api, api->curl_error[0] != '\0' ? api->curl_error : curl_easy_strerror(code),
                        "see in its log whether updraftd is well");
    }
    struct stat status;
    if (error == ECONNREFUSED && stat(api->place.socket, &status) == 0 && !S_ISSOCK(status.st_mode)) {
        error = ENOTSOCK; /* connect() says the same of a plain file as of a dead socket */
    }
    char remedy[512] = "see whether updraftd runs";
    if (error == EACCES || error == EPERM) {
        socket_remedy(api->place.socket, remedy, sizeof remedy);
    }
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
        if (remedies[i].error == error) {
            snprintf(remedy, sizeof remedy, "%s", remedies[i].remedy);
        }
    }
    return say_gone(api, strerror((int)error), remedy);
}

static enum api_result call_failed(struct api_client *api, CURLcode code)
{
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        return API_STOPPED;
    }
    if (code == CURLE_WRITE_ERROR) {
        return say_gone(api, "it answered with more than any of Updraft's answers has",
                        "give the address of updraftd's --admin-listen");
    }
    if (api->place.url[0] == '\0') {
        return socket_failed(api, code);
    }
    static const struct {
        CURLcode code;
        const char *remedy;
    } remedies[] = {
        { CURLE_COULDNT_RESOLVE_HOST,
          "give a name that this machine knows, or the address itself, as http://HOST:PORT" },
        { CURLE_SSL_CONNECT_ERROR, "updraftd's --admin-listen speaks http://; https:// is for a proxy before it" },
        { CURLE_PEER_FAILED_VERIFICATION,
          "have this machine trust the certificate's issuer, and give the name that the "
          "certificate has" },
        { CURLE_OPERATION_TIMEDOUT, "see whether updraftd is well there, and whether a firewall lets this machine in" },
    };
    const char *remedy = "see whether updraftd runs there with --admin-listen, and whether the address is right";
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
        remedy = remedies[i].code == code ? remedies[i].remedy : remedy;
    }
    return say_gone(api, api->curl_error[0] != '\0' ? api->curl_error : curl_easy_strerror(code), remedy);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static enum api_result answer_is_foreign(struct api_client *api)
{
    char why[128];
    snprintf(why, sizeof why, "what answers there (%ld) does not speak the admin API", api->problem.status);
    return say_gone(api, why,
                    api->place.url[0] != '\0' ? "give the address of updraftd's --admin-listen, as http://HOST:PORT; "
                                                "devices are served at another"
                                              : "name updraftd's socket, which is STATE/admin.sock");
}

static enum api_result read_answer(struct api_client *api, json_t **reply)
{
    curl_easy_getinfo(api->curl, CURLINFO_RESPONSE_CODE, &api->problem.status);
    json_t *document = json_loadb(api->body.bytes != NULL ? api->body.bytes : "", api->body.used, 0, NULL);
    bool good = api->problem.status >= 200 && api->problem.status < 300;
    const json_t *error = json_object_get(document, "error");
    enum api_result result = API_DONE;
    if (!json_is_object(document) || (!good && !json_is_object(error))) {
        result = answer_is_foreign(api);
    } else if (!good) {
        say(api, field_text(error, "code"), field_text(error, "message"), field_text(error, "remedy"));
        const char *fault = field_text(error, "fault");
        if (fault[0] != '\0') {
            snprintf(api->problem.message, sizeof api->problem.message, "%s: %s", fault, field_text(error, "message"));
        }
        api->problem.document = json_incref(document);
        result = API_REFUSED;
    } else {
        *reply = json_incref(document);
    }
    json_decref(document);
    return result;
}

static void set_options(struct api_client *api, const char *method, const char *url)
{
    CURL *curl = api->curl;
    curl_easy_reset(curl); /* keeps the connection */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L); /* a token goes where it was told to go */
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);     /* the server judges "..", nobody tidies it up before */
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, api->headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "updraft");
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, api->curl_error);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, api);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, api);
    if (api->place.url[0] == '\0') {
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, api->place.socket);
        curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever http_proxy says */
    }
}

static void forget_problem(struct api_client *api)
{
    json_decref(api->problem.document);
    memset(&api->problem, 0, sizeof api->problem);
}

/* One request; options of a body have been left to the caller, who calls this last. */
static enum api_result perform(struct api_client *api, json_t **reply)
{
    api->body.used = 0;
    api->curl_error[0] = '\0';
    CURLcode code = curl_easy_perform(api->curl);
    return code == CURLE_OK ? read_answer(api, reply) : call_failed(api, code);
}

/* Begins a call. Returns false where the path was too long to be asked for. */
static bool prepare(struct api_client *api, const char *method, const struct api_path *path)
{
    char url[sizeof path->text + sizeof api->place.url];
    forget_problem(api);
    if (path->cut) {
        say(api, "too-large", "what was given is too long for a request", "give less of it");
        return false;
    }
    const char *base = api->place.url[0] != '\0' ? api->place.url : "http://localhost";
    snprintf(url, sizeof url, "%s%s", base, path->text);
    set_options(api, method, url);
    return true;
}

enum api_result api_call(struct api_client *api, const char *method, const struct api_path *path, const json_t *body,
                         json_t **reply)
{
    if (!prepare(api, method, path)) {
        return API_REFUSED;
    }
    char *text = body != NULL ? must(json_dumps(body, JSON_COMPACT)) : NULL;
    struct curl_slist *own = NULL;
    if (text != NULL) {
        for (const struct curl_slist *one = api->headers; one != NULL; one = one->next) {
            own = must(curl_slist_append(own, one->data));
        }
        own = must(curl_slist_append(own, "Content-Type: application/json"));
        curl_easy_setopt(api->curl, CURLOPT_HTTPHEADER, own);
        curl_easy_setopt(api->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(text));
        curl_easy_setopt(api->curl, CURLOPT_POSTFIELDS, text);
    }
    curl_easy_setopt(api->curl, CURLOPT_TIMEOUT_MS, api->patience_ms);
    enum api_result result = perform(api, reply);
    curl_slist_free_all(own);
    free(text);
    return result;
}

enum api_result api_upload(struct api_client *api, const struct api_path *path, const void *bytes, size_t n,
                           api_progress_fn progress, void *owner, json_t **reply)
{
    if (!prepare(api, "POST", path)) {
        return API_REFUSED;
    }
    curl_easy_setopt(api->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
    curl_easy_setopt(api->curl, CURLOPT_POSTFIELDS, bytes);
    curl_easy_setopt(api->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(api->curl, CURLOPT_LOW_SPEED_TIME, STALL_TIMEOUT_S);
    api->progress = progress;
    api->progress_owner = owner;
    enum api_result result = perform(api, reply);
    api->progress = NULL;
    return result;
}

enum api_result api_get_all(struct api_client *api, const struct api_path *path, const char *key, json_t **reply)
{
    json_t *whole = NULL;
    enum api_result result = API_DONE;
    for (size_t page = 0; result == API_DONE && page < PAGES_MAX; page++) {
        char offset[24], limit[24];
        size_t had = json_array_size(json_object_get(whole, key));
        snprintf(offset, sizeof offset, "%zu", had);
        snprintf(limit, sizeof limit, "%d", PAGE_SIZE);
        struct api_path next = *path;
        api_path_query(&next, "offset", offset);
        api_path_query(&next, "limit", limit);
        json_t *piece = NULL;
        result = api_call(api, "GET", &next, NULL, &piece);
        size_t got = json_array_size(json_object_get(piece, key));
        if (whole == NULL) {
            whole = piece;
        } else {
            json_array_extend(json_object_get(whole, key), json_object_get(piece, key));
            json_decref(piece);
        }
        if (got < PAGE_SIZE) {
            break;
        }
    }
    if (result == API_DONE) {
        *reply = whole;
    } else {
        json_decref(whole);
    }
    return result;
}

/* --- fields ------------------------------------------------------------------------------------------------------- */

const char *field_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

uint64_t field_number(const json_t *object, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(object, key));
    return number > 0 ? (uint64_t)number : 0;
}

double field_real(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

bool field_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}
