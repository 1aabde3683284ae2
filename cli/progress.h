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

/* The counts of devices, in the order in which they are shown. */
/*    name         word           of the summary */
#define PROGRESS_COUNT_LIST(X)                                                                                         \
    X(TRIGGERED, "triggered")                                                                                          \
    X(DOWNLOADING, "downloading")                                                                                      \
    X(SENT, "sent")                                                                                                    \
    X(CONFIRMED, "confirmed")                                                                                          \
    X(CURRENT, "current")                                                                                              \
    X(FAILED, "failed")                                                                                                \
    X(SILENT, "silent")

enum progress_count {
#define X(name, word) COUNT_##name,
    PROGRESS_COUNT_LIST(X)
#undef X
        PROGRESS_COUNTS
};

/* A rollout as the server last told it; texts are escaped. */
struct progress {
    char id[33], type[80], version[80], state[16], why[512];
    uint64_t devices[PROGRESS_COUNTS], expected, untracked;
    uint64_t commands, acknowledged;
    uint64_t bytes, bytes_expected;
    double elapsed_s;
    uint64_t timeout_s, window_s;
    char broker_state[16], broker_error[256];
};

const char *progress_word(enum progress_count count);
bool progress_is_over(const struct progress *progress);
bool progress_waits_for_broker(const struct progress *progress);

/* Devices it is about: those expected, or more where more came; those that ran it already among them. */
uint64_t progress_devices(const struct progress *progress);

/* Bytes a second, smoothed over some seconds so that it can be read. */
struct progress_rate {
    bool begun;
    uint64_t bytes;
    double at_s, per_s;
};
void progress_rate_update(struct progress_rate *rate, uint64_t bytes, double now_s);

/* "[#####-----]" of `width` characters in all, at least 3; a part above 1 counts as 1. */
void progress_bar(double part, size_t width, char *to, size_t size);

/* One line for a log or a pipe, without its time: "d1_mini 0.4.10: 2 confirmed, 1 downloading of 3". It changes only
 * when something happened. */
void progress_line(const struct progress *progress, char *to, size_t size);

/* The last line: "d1_mini 0.4.10: done in 12 s: 3 confirmed, 1 silent of 4 devices, 1.2 MiB". */
void progress_summary(const struct progress *progress, char *to, size_t size);

/* --- the live block --- */

#define BLOCK_LINES      3
#define BLOCK_LINE_BYTES 512

struct block {
    size_t count;
    char lines[BLOCK_LINES][BLOCK_LINE_BYTES]; /* with colours */
    size_t columns[BLOCK_LINES];               /* without; each less than the width it was made for */
};

/* `note` is a last line of its own (""  = the broker's trouble, or none). */
void progress_block(const struct progress *progress, const struct progress_rate *rate, const char *note, size_t width,
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
