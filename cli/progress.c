#include "cli/progress.h"

#include "cli/shown.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SMOOTHING_S    4.0
#define WIDTH_FALLBACK 80
#define WIDTH_LEAST    20
#define BAR_LEAST      10
#define BAR_MOST       40

static const struct {
    const char *word;
    bool seldom;
} counts[] = {
#define X(name, word, seldom) { word, seldom },
    PROGRESS_COUNT_LIST(X)
#undef X
};

const char *progress_word(enum progress_count count)
{
    assert(count < PROGRESS_COUNTS);
    return counts[count].word;
}

bool progress_is(const struct progress *progress, const char *state)
{
    return strcmp(progress->state, state) == 0;
}

bool progress_is_over(const struct progress *progress)
{
    return progress_is(progress, "done") || progress_is(progress, "aborted");
}

bool progress_has_no_broker(const struct progress *progress)
{
    return strcmp(progress->broker_state, "off") == 0;
}

bool progress_awaits_strangers(const struct progress *progress)
{
    bool stands = progress_is(progress, "running") || progress_is(progress, "canary");
    return stands && progress->members == 0 && progress->awaits_devices;
}

/* Whatever stage it has reached, as long as nobody could be told, and nobody came by himself. */
bool progress_waits_for_broker(const struct progress *progress)
{
    bool stands = progress_is(progress, "paused") || progress_is(progress, "halted") || progress_is_over(progress);
    return !stands && progress->acknowledged == 0 && progress->bytes == 0 && !progress_has_no_broker(progress) &&
           strcmp(progress->broker_state, "connected") != 0;
}

bool progress_nobody_was_told(const struct progress *progress)
{
    const uint64_t *devices = progress->devices;
    return progress_is(progress, "aborted") && progress->acknowledged == 0 && progress->bytes == 0 &&
           devices[COUNT_CONFIRMED] + devices[COUNT_FLASHED] == 0;
}

uint64_t progress_devices(const struct progress *progress)
{
    uint64_t came = 0, skipped = progress->devices[COUNT_SKIPPED];
    for (size_t i = 0; i < PROGRESS_COUNTS; i++) {
        came += i == COUNT_SKIPPED ? 0 : progress->devices[i];
    }
    uint64_t meant = progress->members > skipped ? progress->members - skipped : 0;
    return came > meant ? came : meant;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void progress_pace_update(struct progress_pace *pace, const struct progress *progress, double now_s)
{
    double passed = now_s - pace->at_s;
    bool downloading = progress->devices[COUNT_DOWNLOADING] > 0;
    if (pace->begun && passed <= 0) {
        return;
    }
    double moved = progress->bytes > pace->bytes ? (double)(progress->bytes - pace->bytes) : 0;
    if (pace->begun && (moved > 0 || (downloading && pace->downloading))) {
        pace->moving_s += passed; /* the first bytes come in a burst: so the mean of all, until that is long enough */
        double over_s = pace->moving_s < SMOOTHING_S ? pace->moving_s : passed + SMOOTHING_S;
        pace->per_s += (moved / passed - pace->per_s) * passed / over_s;
    }
    pace->begun = true;
    pace->downloading = downloading;
    pace->bytes = most(pace->bytes, progress->bytes);
    pace->bytes_expected = most(pace->bytes_expected, progress->bytes_expected);
    const uint64_t *devices = progress->devices;
    pace->is_whole = devices[COUNT_FLASHED] + devices[COUNT_CONFIRMED] == progress_devices(progress);
    pace->at_s = now_s;
}

double progress_part(const struct progress_pace *pace)
{
    double part = pace->bytes_expected > 0 ? (double)pace->bytes / (double)pace->bytes_expected : 0;
    double limit = pace->is_whole ? 1 : 0.99; /* transfers that were cut count too, so there may be more than all */
    return part < limit ? part : limit;
}

void progress_bar(double part, size_t width, char *to, size_t size)
{
    assert(width >= 3 && size > width);
    size_t inner = width - 2;
    double clamped = part < 0 ? 0 : part > 1 ? 1 : part;
    size_t full = (size_t)(clamped * (double)inner);
    to[0] = '[';
    memset(to + 1, '#', full);
    memset(to + 1 + full, '-', inner - full);
    to[width - 1] = ']';
    to[width] = '\0';
}

/* --- text that grows ---------------------------------------------------------------------------------------------- */

struct text {
    char *at;
    size_t used, size;
};

static void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void text_add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text->at + text->used, text->size - text->used, format, arguments);
    va_end(arguments);
    assert(n >= 0);
    text->used += (size_t)n < text->size - text->used ? (size_t)n : text->size - text->used - 1;
}

static const char *count_word(const struct progress *progress, enum progress_count count)
{
    return count == COUNT_SILENT && progress_nobody_was_told(progress) ? PROGRESS_NOT_TOLD : counts[count].word;
}

/* "2 confirmed, 1 downloading of 3, 4 skipped": what there is, nearest to its end first. `noun` may be "". Returns
 * whether there is any. */
static bool add_counts(struct text *text, const struct progress *progress, const char *noun)
{
    static const enum progress_count order[] = {
        COUNT_CONFIRMED, COUNT_FLASHED, COUNT_DOWNLOADING, COUNT_TRIGGERED, COUNT_QUEUED, COUNT_FAILED, COUNT_SILENT,
    };
    uint64_t all = progress_devices(progress), skipped = progress->devices[COUNT_SKIPPED];
    const char *between = "";
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (progress->devices[order[i]] > 0) {
            text_add(text, "%s%" PRIu64 " %s", between, progress->devices[order[i]], count_word(progress, order[i]));
            between = ", ";
        }
    }
    if (between[0] != '\0') {
        text_add(text, " of %" PRIu64 "%s%s%s", all, noun[0] != '\0' ? " " : "", noun,
                 noun[0] != '\0' && all != 1 ? "s" : "");
    }
    if (skipped > 0) {
        const char *why = progress->skipped_why;
        text_add(text, "%s%" PRIu64 " %s%s%s%s", between, skipped, count_word(progress, COUNT_SKIPPED),
                 why[0] != '\0' ? " (" : "", why, why[0] != '\0' ? ")" : "");
        between = ", ";
    }
    if (progress->anonymous > 0) {
        text_add(text, "%s%" PRIu64 " without a name", between, progress->anonymous);
        between = ", ";
    }
    return between[0] != '\0';
}

bool progress_counts(const struct progress *progress, char *to, size_t size)
{
    struct text text = { to, 0, size };
    to[0] = '\0';
    return add_counts(&text, progress, "");
}

/* Until when it waits for the broker. */
static uint64_t patience_left(const struct progress *progress)
{
    uint64_t gone = progress->elapsed_s > 0 ? (uint64_t)progress->elapsed_s : 0;
    return gone < progress->timeout_s ? progress->timeout_s - gone : 0;
}

/* "halted: ", "canaries 1/5: ": what stands before the counts, where it is not simply going on. */
static void add_stage(struct text *text, const struct progress *progress)
{
    if (progress_is(progress, "canary")) {
        text_add(text, "canaries %" PRIu64 "/%" PRIu64 ": ", progress->canaries_confirmed, progress->canaries);
    } else if (!progress_is(progress, "running") && !progress_is(progress, "done")) {
        text_add(text, "%s: ", progress->state);
    }
}

void progress_line(const struct progress *progress, char *to, size_t size)
{
    struct text text = { to, 0, size };
    text_add(&text, "%s %s: ", progress->type, progress->version);
    if (progress_waits_for_broker(progress)) {
        text_add(&text, "waiting for the broker (%s)",
                 progress->broker_error[0] != '\0' ? progress->broker_error : progress->broker_state);
        return;
    }
    add_stage(&text, progress);
    if (add_counts(&text, progress, "")) {
        return;
    }
    if (progress_nobody_was_told(progress)) {
        text_add(&text, "no device was told");
    } else if (progress_is(progress, "planned") && progress->commands > 0) {
        text_add(&text, "the broker has %" PRIu64 " of %" PRIu64 " commands", progress->acknowledged,
                 progress->commands);
    } else if (progress_is(progress, "planned")) {
        text_add(&text, "its devices are being looked through");
    } else {
        text_add(&text, progress_is_over(progress) ? "no device came" : "no device came yet");
    }
}

void progress_summary(const struct progress *progress, char *to, size_t size)
{
    struct text text = { to, 0, size };
    char room[SHOWN_SIZE];
    text_add(&text, "%s %s: %s in %s: ", progress->type, progress->version, progress->state,
             shown_age(progress->elapsed_s > 0 ? (uint64_t)progress->elapsed_s : 0, room));
    if (progress_is(progress, "done") && progress->all_run_it && progress_devices(progress) == 0) {
        text_add(&text, "nothing to do, all %" PRIu64 " run it already", progress->devices[COUNT_SKIPPED]);
    } else if (!add_counts(&text, progress, "device")) {
        text_add(&text, progress_nobody_was_told(progress) ? "no device was told" : "no device came");
    }
    text_add(&text, ", %s", shown_bytes(progress->bytes, room));
}

/* --- the block ---------------------------------------------------------------------------------------------------- */

#define GREEN "\x1b[32m"
#define RED   "\x1b[31m"
#define PLAIN "\x1b[0m"

/* Adds text to the block's last line, cut where the terminal ends; one column is left free, because a cursor behind
 * the last column is in no defined place. */
static void line_add(struct block *block, size_t width, const char *colour, const char *text)
{
    size_t i = block->count - 1;
    char *line = block->lines[i];
    size_t used = strlen(line), left = width - 1 - block->columns[i];
    size_t n = strlen(text) < left ? strlen(text) : left;
    size_t need = n + strlen(colour) + sizeof PLAIN;
    if (n == 0 || used + need >= BLOCK_LINE_BYTES) {
        return;
    }
    snprintf(line + used, BLOCK_LINE_BYTES - used, "%s%.*s%s", colour, (int)n, text, colour[0] != '\0' ? PLAIN : "");
    block->columns[i] += n;
}

static void line_begin(struct block *block)
{
    assert(block->count < BLOCK_LINES);
    block->lines[block->count][0] = '\0';
    block->columns[block->count++] = 0;
}

/* What stands behind the bar: " 50%     2/3 devices    1.2 MiB/s   0:12 left". Each has its columns, whatever is in
 * them; on a narrow terminal the last go first. */
enum figure { FIGURE_PART, FIGURE_DEVICES, FIGURE_RATE, FIGURE_LEFT, FIGURES };
static const size_t figure_columns[FIGURES] = { 5, 17, 14, 14 };

static void figure_text(enum figure figure, const struct progress *progress, const struct progress_pace *pace, char *to,
                        size_t size)
{
    struct text text = { to, 0, size };
    char room[SHOWN_SIZE];
    bool moves = !progress_is_over(progress) && pace->per_s >= 1;
    bool goes_on = progress_is(progress, "canary") || progress_is(progress, "running");
    to[0] = '\0';
    if (figure == FIGURE_PART && pace->bytes_expected > 0) {
        text_add(&text, " %3d%%", (int)(100.0 * progress_part(pace)));
    } else if (figure == FIGURE_DEVICES) {
        text_add(&text, "  %" PRIu64 "/%s", progress->devices[COUNT_CONFIRMED],
                 shown_count(progress_devices(progress), "device", room));
    } else if (figure == FIGURE_RATE && moves) {
        text_add(&text, "  %s/s", shown_bytes((uint64_t)pace->per_s, room));
    } else if (figure == FIGURE_LEFT && goes_on && progress->seconds_left >= 0) {
        text_add(&text, "  %s left", shown_clock((uint64_t)progress->seconds_left, room)); /* restarts and all */
    } else if (figure == FIGURE_LEFT && moves && goes_on && pace->bytes_expected > pace->bytes) {
        double left = (double)(pace->bytes_expected - pace->bytes) / pace->per_s;
        text_add(&text, "  %s left", shown_clock(left < 3.6e6 ? (uint64_t)left : 3600000, room));
    }
}

static void bar_line(const struct progress *progress, const struct progress_pace *pace, size_t width, bool colours,
                     struct block *block)
{
    char name[168], bar[BAR_MOST + 1], behind[256], piece[64];
    size_t taken = (size_t)snprintf(name, sizeof name, "%s %s ", progress->type, progress->version) + 1, figures = 0;
    line_begin(block);
    line_add(block, width, "", name);
    while (figures < FIGURES && taken + figure_columns[figures] + BAR_LEAST <= width) {
        taken += figure_columns[figures++];
    }
    size_t bar_width = width > taken ? width - taken : 0;
    if (bar_width >= BAR_LEAST) {
        progress_bar(progress_part(pace), bar_width < BAR_MOST ? bar_width : BAR_MOST, bar, sizeof bar);
        line_add(block, width, colours ? GREEN : "", bar);
    }
    struct text text = { behind, 0, sizeof behind };
    behind[0] = '\0';
    for (size_t i = 0; i < (figures > 0 ? figures : FIGURES); i++) {
        figure_text((enum figure)i, progress, pace, piece, sizeof piece);
        text_add(&text, "%*s", figures > 0 ? (int)figure_columns[i] : 0, piece);
    }
    while (text.used > 0 && behind[text.used - 1] == ' ') {
        behind[--text.used] = '\0';
    }
    line_add(block, width, "", behind);
}

/* Where not all of them fit, those that are nothing are left out: the last are of the most interest. */
static void counts_line(const struct progress *progress, size_t width, bool colours, struct block *block)
{
    static const char *const colour[PROGRESS_COUNTS] = { [COUNT_CONFIRMED] = GREEN, [COUNT_FAILED] = RED };
    char pieces[PROGRESS_COUNTS][48];
    size_t columns = 0;
    for (size_t i = 0; i < PROGRESS_COUNTS; i++) {
        bool seldom = counts[i].seldom && progress->devices[i] == 0;
        int n = snprintf(pieces[i], sizeof pieces[i], "  %s %" PRIu64, count_word(progress, (enum progress_count)i),
                         progress->devices[i]);
        pieces[i][0] = seldom ? '\0' : pieces[i][0];
        columns += seldom ? 0 : (size_t)n;
    }
    bool all = columns - 2 < width;
    line_begin(block);
    for (size_t i = 0; i < PROGRESS_COUNTS; i++) {
        bool is_first = block->columns[block->count - 1] == 0, shine = colours && progress->devices[i] > 0;
        if (pieces[i][0] != '\0' && (all || progress->devices[i] > 0)) {
            line_add(block, width, shine && colour[i] != NULL ? colour[i] : "", pieces[i] + (is_first ? 2 : 0));
        }
    }
}

/* "window 17/32 (adaptive)  canaries 3/5  failures 2, halts above 20 %": what paces it, and what would stop it. */
static void pace_line(const struct progress *progress, size_t width, bool colours, struct block *block)
{
    char piece[96];
    line_begin(block);
    snprintf(piece, sizeof piece, "window %" PRIu64 "/%" PRIu64 "%s", progress->in_flight, progress->window,
             progress->adaptive ? " (adaptive)" : "");
    line_add(block, width, "", piece);
    if (progress->canaries > 0) {
        bool all = progress->canaries_confirmed >= progress->canaries;
        snprintf(piece, sizeof piece, "  canaries %" PRIu64 "/%" PRIu64, progress->canaries_confirmed,
                 progress->canaries);
        line_add(block, width, colours && all ? GREEN : "", piece);
    }
    if (progress->failures > 0) {
        snprintf(piece, sizeof piece, "  failures %" PRIu64 ", halts above %" PRIu64 " %%", progress->failures,
                 progress->max_failures);
        line_add(block, width, colours ? RED : "", piece);
    }
}

/* What an operator should know of why nothing moves; "" where it does. */
static void waiting_text(const struct progress *progress, char *to, size_t size)
{
    char room[SHOWN_SIZE];
    to[0] = '\0';
    if (progress_waits_for_broker(progress)) {
        snprintf(to, size, "waiting for the broker, %s left: %s", shown_clock(patience_left(progress), room),
                 progress->broker_error[0] != '\0' ? progress->broker_error : progress->broker_state);
    } else if (progress_is(progress, "paused")) {
        snprintf(to, size, "paused by an operator: \"updraft rollouts resume %s\" lets it go on", progress->id);
    } else if (progress_has_no_broker(progress) && !progress_is_over(progress)) {
        snprintf(to, size, "no broker is configured: devices get it when they ask");
    }
}

/* Lines of whole words; one that fits no line goes on in the next. */
static void note_lines(const char *note, size_t width, bool colours, struct block *block)
{
    while (*note != '\0' && block->count < BLOCK_LINES) {
        char line[BLOCK_LINE_BYTES / 2];
        size_t room = width - 1 < sizeof line - 1 ? width - 1 : sizeof line - 1, n = strlen(note);
        if (n > room) {
            n = room;
            while (n > 0 && note[n] != ' ') {
                n--;
            }
            n = n > 0 ? n : room;
        }
        snprintf(line, sizeof line, "%.*s", (int)n, note);
        line_begin(block);
        line_add(block, width, colours ? RED : "", line);
        note += n;
        note += strspn(note, " ");
    }
}

void progress_block(const struct progress *progress, const struct progress_pace *pace, const char *note, size_t width,
                    bool colours, struct block *block)
{
    char waiting[sizeof progress->broker_error + 128];
    width = width < WIDTH_LEAST ? WIDTH_LEAST : width;
    block->count = 0;
    bar_line(progress, pace, width, colours, block);
    counts_line(progress, width, colours, block);
    if (!progress_is_over(progress) && progress->window > 0) {
        pace_line(progress, width, colours, block);
    }
    waiting_text(progress, waiting, sizeof waiting);
    note_lines(note[0] != '\0' ? note : waiting, width, colours, block);
}

/* --- drawing ------------------------------------------------------------------------------------------------------ */

bool live_begin(struct live *live, FILE *out)
{
    memset(live, 0, sizeof *live);
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    live->out = out;
    live->colours = no_color == NULL || no_color[0] == '\0';
    return isatty(fileno(out)) && term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
}

size_t live_width(const struct live *live)
{
    struct winsize size;
    if (ioctl(fileno(live->out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return WIDTH_FALLBACK;
    }
    return size.ws_col < WIDTH_LEAST ? WIDTH_LEAST : size.ws_col;
}

size_t live_compose(const struct block *last, const struct block *next, size_t width, char *to, size_t size)
{
    struct text text = { to, 0, size };
    size_t rows = 0;
    for (size_t i = 0; i < last->count; i++) {
        /* a terminal that became narrower has folded what was drawn before */
        rows += last->columns[i] == 0 ? 1 : (last->columns[i] + width - 1) / width;
    }
    if (rows > 0) {
        text_add(&text, "\r\x1b[%zuA", rows);
    }
    for (size_t i = 0; i < next->count; i++) {
        text_add(&text, "%s\x1b[K\n", next->lines[i]);
    }
    text_add(&text, "\x1b[J"); /* what is left of a longer block */
    return text.used;
}

void live_draw(struct live *live, const struct block *block)
{
    char bytes[LIVE_BYTES];
    size_t n = live_compose(&live->last, block, live_width(live), bytes, sizeof bytes);
    fwrite(bytes, 1, n, live->out);
    fflush(live->out);
    live->last = *block;
}
