#include "server/audit.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mailbox.h"

#include <assert.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define RETRY_MS  5000
#define IDLE_MS   3600000
#define TIME_SIZE 32

struct letter {
    struct mail mail; /* first */
    struct timeval at;
    struct audit_act act;
};

struct audit {
    struct audit_file file; /* the thread's, once it runs; its reading is everybody's */
    struct mailbox box;
    uv_thread_t thread;
    bool started;
    struct buf waiting; /* for the disk */
    bool said;          /* that it fails */
    _Atomic int status; /* enum status of the last writing */
    _Atomic uint64_t lost;
};

/* --- a line ------------------------------------------------------------------------------------------------------- */

static void print_time(const struct timeval *at, char text[TIME_SIZE])
{
    struct tm utc;
    gmtime_r(&at->tv_sec, &utc);
    size_t n = strftime(text, TIME_SIZE - 8, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, TIME_SIZE - n, ".%03uZ", (unsigned)(at->tv_usec / 1000) % 1000);
}

/* A user's name, as far as this machine knows it: asking may take a while, so the loop does not. */
static void find_user(uid_t uid, char *name, size_t size)
{
    char room[4096];
    struct passwd entry, *found = NULL;
    bool known = getpwuid_r(uid, &entry, room, sizeof room, &found) == 0 && found != NULL;
    snprintf(name, size, "%s", known ? found->pw_name : "");
}

static const char *result_of(unsigned status)
{
    return status < 400 ? "done" : status < 500 ? "refused" : "failed";
}

/* Foreign bytes as JSON can have them. */
static json_t *text_of(const char *text)
{
    char escaped[4 * sizeof((struct audit_act *)0)->order];
    json_t *json = text_is_clean_utf8(slice_of(text)) ? json_string(text) : NULL;
    if (json == NULL) {
        text_escape(slice_of(text), escaped, sizeof escaped);
        json = json_string(escaped);
    }
    return json;
}

static json_t *line_of(const struct letter *letter, const char *user)
{
    const struct audit_act *act = &letter->act;
    bool local = act->token[0] == '\0';
    char time[TIME_SIZE];
    print_time(&letter->at, time);
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:o, s:o, s:i, s:s, s:s, s:o, s:I}", "time", time,
                     "token", local ? json_null() : json_string(act->token), "uid",
                     act->has_ids ? json_integer((json_int_t)act->uid) : json_null(), "gid",
                     act->has_ids ? json_integer((json_int_t)act->gid) : json_null(), "user",
                     user[0] != '\0' ? text_of(user) : json_null(), "role", role_word(act->role), "from", act->from,
                     "act", act->act, "object", text_of(act->object), "order", text_of(act->order), "status",
                     (int)act->status, "result", result_of(act->status), "code", act->code, "why", text_of(act->why),
                     "unsaid", (json_int_t)act->unsaid);
}

static void log_act(const struct audit_act *act, const char *user)
{
    struct log_line line;
    log_begin(&line, act->status < 400 ? LOG_INFO : LOG_WARN, "operator_act");
    log_text(&line, "act", act->act);
    log_text(&line, "object", act->object);
    log_text(&line, "token", act->token[0] != '\0' ? act->token : NULL);
    if (act->has_ids) {
        log_number(&line, "uid", act->uid);
        log_number(&line, "gid", act->gid);
        log_text(&line, "user", user[0] != '\0' ? user : NULL);
    }
    log_text(&line, "role", role_word(act->role));
    log_text(&line, "from", act->from);
    log_number(&line, "status", act->status);
    log_text(&line, "code", act->code[0] != '\0' ? act->code : NULL);
    log_text(&line, "why", act->why[0] != '\0' ? act->why : NULL);
    log_text(&line, "order", act->order[0] != '\0' ? act->order : NULL); /* last: it may be cut */
    log_end(&line);
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void lose(struct audit *audit)
{
    atomic_fetch_add(&audit->lost, 1);
}

static void take_letter(struct audit *audit, struct letter *letter)
{
    char user[256] = "";
    if (letter->act.has_ids) {
        find_user(letter->act.uid, user, sizeof user);
    }
    log_act(&letter->act, user);
    json_t *json = line_of(letter, user);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    size_t n = text != NULL ? strlen(text) : 0;
    if (text != NULL) {
        text[n++] = '\n'; /* in the place of its NUL */
    }
    if (text == NULL || !buf_add(&audit->waiting, text, n)) {
        lose(audit);
    }
    free(text);
    json_decref(json);
    free(letter);
}

/* Says it where it has changed. */
static void judge(struct audit *audit, enum status status)
{
    struct log_line line;
    bool fails = status != STATUS_OK;
    atomic_store(&audit->status, (int)status);
    if (fails == audit->said) {
        return;
    }
    audit->said = fails;
    if (fails) {
        LOG_EVENT(LOG_ERROR, "audit_failing", "file", audit->file.path, "why", status_text(status), "remedy",
                  "make room there, or mend it; acts go on, and are in this log as operator_act");
        return;
    }
    log_begin(&line, LOG_WARN, "audit_recovered");
    log_text(&line, "file", audit->file.path);
    log_number(&line, "lost", (int64_t)atomic_load(&audit->lost)); /* since the start */
    log_end(&line);
}

static void write_waiting(struct audit *audit)
{
    size_t written;
    if (audit->waiting.used > 0) {
        enum status status = audit_file_append(&audit->file, audit->waiting.bytes, audit->waiting.used, &written);
        buf_consume(&audit->waiting, written);
        judge(audit, status);
    }
}

static void run(void *owner)
{
    struct audit *audit = owner;
    judge(audit, audit->file.descriptor < 0 ? STATUS_DENIED : STATUS_OK); /* what the start found */
    for (;;) {
        bool ending = mailbox_is_shut(&audit->box);
        struct mail *mail = mailbox_wait(&audit->box, ending ? 0 : audit->waiting.used > 0 ? RETRY_MS : IDLE_MS);
        while (mail != NULL) {
            struct letter *letter = (struct letter *)mail;
            mail = mail->next;
            take_letter(audit, letter);
        }
        write_waiting(audit);
        if (ending) {
            break;
        }
    }
}

/* --- the loop's side ---------------------------------------------------------------------------------------------- */

enum status audit_open(const char *path, struct audit **audit, char *message, size_t size)
{
    struct audit *opened = calloc(1, sizeof *opened);
    assert(opened != NULL);
    enum status status = audit_file_open(&opened->file, path, message, size);
    if (status != STATUS_OK) {
        free(opened);
        return status;
    }
    buf_init(&opened->waiting, AUDIT_WAITING_BYTES);
    mailbox_open_thread(&opened->box, AUDIT_QUEUE);
    *audit = opened;
    return STATUS_OK;
}

void audit_start(struct audit *audit)
{
    int error = uv_thread_create(&audit->thread, run, audit);
    assert(error == 0);
    (void)error;
    audit->started = true;
}

void audit_stop(struct audit *audit)
{
    mailbox_shut(&audit->box);
    if (audit->started) {
        uv_thread_join(&audit->thread);
    }
    mailbox_close(&audit->box, NULL);
    buf_close(&audit->waiting);
    audit_file_close(&audit->file);
    free(audit);
}

void audit_add(struct audit *audit, const struct audit_act *act)
{
    struct letter *letter = malloc(sizeof *letter);
    if (letter != NULL) {
        gettimeofday(&letter->at, NULL);
        letter->act = *act;
    }
    if (letter == NULL || !mailbox_post(&audit->box, &letter->mail)) {
        lose(audit);
        log_act(act, "");
        free(letter);
    }
}

const char *audit_trouble(const struct audit *audit)
{
    enum status status = (enum status)atomic_load(&audit->status);
    return status != STATUS_OK ? status_text(status) : NULL;
}

uint64_t audit_lost(const struct audit *audit)
{
    return atomic_load(&audit->lost);
}

struct audit_file *audit_file_of(struct audit *audit)
{
    return &audit->file;
}
