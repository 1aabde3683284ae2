/* What makes it hard is that one file is written and read, that a disk may hang, and that no other thread may share
 * anything with the loop: all of it is one piece of work at a time, which has the acts that came before it, and perhaps
 * a page to be read behind them. */
#include "server/audit.h"

#include "base/buf.h"
#include "base/log.h"

#include <assert.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define RETRY_MS  5000
#define TIME_SIZE 32

struct letter {
    struct letter *next;
    struct timeval at;
    struct audit_act act;
};

struct reading {
    struct audit_page page;
    char since[AUDIT_SINCE_SIZE];
    audit_read_fn on_read; /* NULL = nobody wants to read */
    void *owner;
};

struct audit {
    uv_loop_t *loop;
    struct letter *first, **end; /* acts for the next piece of work */
    size_t count;
    struct reading asked;
    uint64_t tried_ms, lost, lost_said;
    enum status status; /* of the last writing */
    bool said;          /* that it fails */
    bool busy;
    /* The work's, while it is busy: */
    uv_work_t work;
    struct audit_file file;
    struct buf waiting; /* lines for the disk */
    struct letter *letters;
    struct reading reading;
    json_t *found;
    enum status result;
    uint64_t dropped; /* lines that found no room in `waiting` */
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

/* What an operator says stands last: a line may be cut, and not before the rest is said. */
static void log_act(const struct audit_act *act)
{
    struct log_line line;
    log_begin(&line, act->status < 400 ? LOG_INFO : LOG_WARN, "operator_act");
    log_text(&line, "act", act->act);
    log_text(&line, "token", act->token[0] != '\0' ? act->token : NULL);
    if (act->has_ids) {
        log_number(&line, "uid", act->uid);
        log_number(&line, "gid", act->gid);
    }
    log_text(&line, "role", role_word(act->role));
    log_text(&line, "from", act->from);
    log_number(&line, "status", act->status);
    log_text(&line, "code", act->code[0] != '\0' ? act->code : NULL);
    if (act->unsaid > 0) {
        log_number(&line, "unsaid", (int64_t)act->unsaid);
    }
    log_text(&line, "object", act->object);
    log_text(&line, "why", act->why[0] != '\0' ? act->why : NULL);
    log_text(&line, "order", act->order[0] != '\0' ? act->order : NULL);
    log_end(&line);
}

/* --- on a worker thread ------------------------------------------------------------------------------------------- */

static void write_waiting(struct audit *audit)
{
    size_t written = 0;
    if (audit->waiting.used > 0) {
        audit->result = audit_file_append(&audit->file, audit->waiting.bytes, audit->waiting.used, &written);
        buf_consume(&audit->waiting, written);
    }
}

/* More may come at once than waits: then what waits is written in between, as long as that works. */
static bool add_line(struct audit *audit, const char *line, size_t n)
{
    if (buf_add(&audit->waiting, line, n)) {
        return true;
    }
    if (audit->result == STATUS_OK) {
        write_waiting(audit);
    }
    return buf_add(&audit->waiting, line, n);
}

static void take_letter(struct audit *audit, struct letter *letter)
{
    char user[256] = "";
    if (letter->act.has_ids) {
        find_user(letter->act.uid, user, sizeof user);
    }
    json_t *json = line_of(letter, user);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    size_t n = text != NULL ? strlen(text) : 0;
    if (text != NULL) {
        text[n++] = '\n'; /* in the place of its NUL */
    }
    audit->dropped += text == NULL || !add_line(audit, text, n);
    free(text);
    json_decref(json);
    free(letter);
}

static void on_work(uv_work_t *work)
{
    struct audit *audit = work->data;
    write_waiting(audit); /* of before: says, too, whether it can be written now */
    while (audit->letters != NULL) {
        struct letter *letter = audit->letters;
        audit->letters = letter->next;
        take_letter(audit, letter);
    }
    write_waiting(audit);
    if (audit->reading.on_read != NULL) {
        audit->reading.page.since = audit->reading.since;
        audit->found = audit_file_read(&audit->file, &audit->reading.page);
    }
}

/* --- on the loop -------------------------------------------------------------------------------------------------- */

/* Says it where it has changed. */
static void judge(struct audit *audit, enum status status)
{
    struct log_line line;
    bool fails = status != STATUS_OK;
    audit->status = status;
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
    log_number(&line, "lost", (int64_t)audit->lost); /* since the start */
    log_end(&line);
}

static void start_work(struct audit *audit);

static void on_done(uv_work_t *work, int error)
{
    struct audit *audit = work->data;
    audit_read_fn on_read = audit->reading.on_read;
    (void)error; /* never cancelled */
    audit->busy = false;
    audit->lost += audit->dropped;
    audit->dropped = 0;
    audit->tried_ms = uv_now(audit->loop);
    judge(audit, audit->result);
    if (on_read != NULL) {
        audit->reading.on_read = NULL;
        on_read(audit->reading.owner, audit->found);
    }
    if (!audit->busy && (audit->first != NULL || audit->asked.on_read != NULL)) {
        start_work(audit);
    }
}

static void start_work(struct audit *audit)
{
    audit->letters = audit->first;
    audit->first = NULL;
    audit->end = &audit->first;
    audit->count = 0;
    audit->reading = audit->asked;
    audit->asked.on_read = NULL;
    audit->result = audit->status; /* where there is nothing to write */
    audit->busy = true;
    audit->work.data = audit;
    int status = uv_queue_work(audit->loop, &audit->work, on_work, on_done);
    assert(status == 0); /* it fails on a NULL alone */
    (void)status;
}

enum status audit_open(const char *path, uv_loop_t *loop, struct audit **audit, char *message, size_t size)
{
    struct audit *opened = calloc(1, sizeof *opened);
    assert(opened != NULL);
    enum status status = audit_file_open(&opened->file, path, message, size);
    if (status != STATUS_OK) {
        free(opened);
        return status;
    }
    opened->loop = loop;
    opened->end = &opened->first;
    buf_init(&opened->waiting, AUDIT_WAITING_BYTES);
    opened->status = opened->file.descriptor < 0 ? STATUS_DENIED : STATUS_OK; /* said by the first tick */
    *audit = opened;
    return STATUS_OK;
}

void audit_close(struct audit *audit)
{
    assert(!audit->busy && audit->first == NULL);
    buf_close(&audit->waiting);
    audit_file_close(&audit->file);
    free(audit);
}

void audit_add(struct audit *audit, const struct audit_act *act)
{
    struct letter *letter = audit->count < AUDIT_QUEUE ? malloc(sizeof *letter) : NULL;
    log_act(act); /* by the loop, before the answer: no disk that hangs, and no kill, takes it away */
    if (letter == NULL) {
        audit->lost++;
        return;
    }
    *letter = (struct letter){ .act = *act };
    gettimeofday(&letter->at, NULL);
    *audit->end = letter;
    audit->end = &letter->next;
    audit->count++;
    if (!audit->busy) {
        start_work(audit);
    }
}

bool audit_read(struct audit *audit, const struct audit_page *page, audit_read_fn on_read, void *owner)
{
    if (audit->asked.on_read != NULL || audit->reading.on_read != NULL) {
        return false;
    }
    audit->asked = (struct reading){ .page = *page, .on_read = on_read, .owner = owner };
    snprintf(audit->asked.since, sizeof audit->asked.since, "%s", page->since);
    if (!audit->busy) {
        start_work(audit);
    }
    return true;
}

static void say_lost(struct audit *audit)
{
    struct log_line line;
    if (audit->lost == audit->lost_said) {
        return;
    }
    log_begin(&line, LOG_ERROR, "audit_lost");
    log_text(&line, "file", audit->file.path);
    log_number(&line, "lines", (int64_t)(audit->lost - audit->lost_said));
    log_text(&line, "why", "more acts came than the disk takes; each is in this log as operator_act");
    log_text(&line, "remedy", "look for a disk that hangs or is full, and for who orders so much");
    log_end(&line);
    audit->lost_said = audit->lost;
}

void audit_tick(struct audit *audit)
{
    judge(audit, audit->status);
    say_lost(audit);
    if (!audit->busy && audit->waiting.used > 0 && uv_now(audit->loop) - audit->tried_ms >= RETRY_MS) {
        start_work(audit);
    }
}

const char *audit_trouble(const struct audit *audit)
{
    return audit->status != STATUS_OK ? status_text(audit->status) : NULL;
}

uint64_t audit_lost(const struct audit *audit)
{
    return audit->lost;
}
