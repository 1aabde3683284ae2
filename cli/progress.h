/* How a rollout is shown while it runs: a block of lines redrawn in place on a terminal, a line a change elsewhere.
 *
 * Pure but for the drawing at the end: facts in, text out. What makes it hard: the block must never be wider than the
 * terminal, which may change its width between two drawings, or else it does not find its own beginning again.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The states of a device in a rollout, in the order in which they are counted on the screen. */
/*    name         word, left out where it is 0 */
#define PROGRESS_COUNT_LIST(X)                                                                                         \
    X(QUEUED, "queued", true)                                                                                          \
    X(TRIGGERED, "triggered", false)                                                                                   \
    X(DOWNLOADING, "downloading", false)                                                                               \
    X(FLASHED, "flashed", false)                                                                                       \
    X(CONFIRMED, "confirmed", false)                                                                                   \
    X(FAILED, "failed", false)                                                                                         \
    X(SILENT, "silent", false)                                                                                         \
    X(SKIPPED, "skipped", true)

enum progress_count {
#define X(name, word, seldom) COUNT_##name,
    PROGRESS_COUNT_LIST(X)
#undef X
        PROGRESS_COUNTS
};

/* A rollout as the server last told it; texts are escaped. */
struct progress {
    char id[33], type[80], version[80], state[16], why[2048];
    uint64_t devices[PROGRESS_COUNTS], members, anonymous;
    char skipped_why[200]; /* "44 run it already, 3 pinned"; "" = not known */
    bool all_run_it;       /* nobody was skipped for another reason */
    uint64_t canaries, canaries_confirmed;
    uint64_t window, in_flight; /* at once: at most, and now */
    bool adaptive, awaits_devices, superseded;
    uint64_t failures, max_failures; /* so many, and the percentage above which it halts */
    uint64_t commands, acknowledged;
    uint64_t bytes, bytes_expected;
    double elapsed_s;
    int64_t seconds_left; /* -1 = nothing is measured yet */
    uint64_t timeout_s, window_s;
    char broker_state[16], broker_error[1024];
};

#define PROGRESS_NOT_TOLD "not told" /* instead of "silent", where no command reached the broker */

const char *progress_word(enum progress_count count);
bool progress_is(const struct progress *progress, const char *state);
bool progress_is_over(const struct progress *progress); /* done, aborted */
bool progress_has_no_broker(const struct progress *progress);
/* No device is known and none was told: it stands for days, for whoever comes. */
bool progress_awaits_strangers(const struct progress *progress);
bool progress_waits_for_broker(const struct progress *progress);

/* Aborted before a single device could be told of it. */
bool progress_nobody_was_told(const struct progress *progress);

/* Devices that are to have it: its members without those that were skipped, or more where more came. */
uint64_t progress_devices(const struct progress *progress);

/* How far the bytes are, as it can be watched: no figure goes back while the whole is the same, though a look at the
 * server may find fewer bytes than the one before. The rate is smoothed over the last seconds in which bytes moved or a
 * device was downloading: while all of them only restart, it stays what it was. */
struct progress_pace {
    bool begun, downloading;
    uint64_t bytes, bytes_expected; /* the most so far */
    bool is_whole;                  /* nobody is to receive more of them, as far as can be seen */
    double at_s, per_s, moving_s;   /* ...and the time that the rate is of */
};
void progress_pace_update(struct progress_pace *pace, const struct progress *progress, double now_s);

/* Of the whole, 0 to 1: 1 only where nobody is to receive more; 0 where nobody knows how many will come. */
double progress_part(const struct progress_pace *pace);

/* "[#####-----]" of `width` characters in all, at least 3; a part above 1 counts as 1. */
void progress_bar(double part, size_t width, char *to, size_t size);

/* "1 confirmed, 1 downloading of 3, 2 skipped"; false where there is none yet. */
bool progress_counts(const struct progress *progress, char *to, size_t size);

/* One line for a log or a pipe, without its time: "d1_mini 0.4.10: canaries 1/2: 1 confirmed, 1 downloading, 3
 * queued of 5". It changes only when something happened. */
void progress_line(const struct progress *progress, char *to, size_t size);

/* The last line: "d1_mini 0.4.10: done in 12 s: 3 confirmed, 1 silent of 4 devices, 1.2 MiB". */
void progress_summary(const struct progress *progress, char *to, size_t size);

/* --- the live block --- */

#define BLOCK_NOTE_LINES 4 /* what does not fit is cut: it is said whole when the watching ends */
#define BLOCK_LINES      (3 + BLOCK_NOTE_LINES)
#define BLOCK_LINE_BYTES 512

struct block {
    size_t count;
    char lines[BLOCK_LINES][BLOCK_LINE_BYTES]; /* with colours */
    size_t columns[BLOCK_LINES];               /* without; each less than the width it was made for */
};

/* Bar, counts, how many go at once and, below them, `note` (""  = what the rollout waits for, if anything), wrapped.
 * Bar and figures have the same columns in every block of a width, so that nothing jumps. */
void progress_block(const struct progress *progress, const struct progress_pace *pace, const char *note, size_t width,
                    bool colours, struct block *block);

/* Where blocks are drawn; remembers the last one. */
struct live {
    FILE *out;
    bool colours;
    struct block last;
};

/* Whether `out` is a terminal that can go back; colours by NO_COLOR. */
bool live_begin(struct live *live, FILE *out);
size_t live_width(const struct live *live);
void live_draw(struct live *live, const struct block *block);

/* The bytes that go from one block to the next at this width: one write, so that nothing flickers. Returns how many,
 * without the NUL. */
size_t live_compose(const struct block *last, const struct block *next, size_t width, char *to, size_t size);
#define LIVE_BYTES (BLOCK_LINES * (BLOCK_LINE_BYTES + 8) + 32)

#endif
