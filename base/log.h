/* One event, one line: `time=… level=info event=update_sent device=… ms=…`, or the same as JSON.
 *
 * Writing never blocks the caller: lines go to a bounded buffer that a thread of its own writes to stderr. Where the
 * reader of stderr is too slow, lines are dropped, counted, and the loss is said as soon as there is room again.
 * Before log_start and after log_stop lines are written directly. Safe from any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
    LOG_ERROR, /* someone must act */
    LOG_WARN,  /* we coped */
    LOG_INFO,  /* the day's story */
    LOG_DEBUG, /* the rest */
};

enum log_format { LOG_LOGFMT, LOG_JSON };

void log_configure(enum log_level level, enum log_format format);
void log_start(void); /* starts the writing thread */
void log_stop(void);  /* writes what is left and ends the thread */

/* Ask before building a line on a path that is taken often. */
bool log_enabled(enum log_level level);

/* A line under construction. Values are escaped as the format needs; what does not fit is cut and marked. */
struct log_line {
    size_t used;
    bool enabled;
    bool cut;
    char bytes[1536];
};

void log_begin(struct log_line *line, enum log_level level, const char *event);
void log_slice(struct log_line *line, const char *key, struct slice value);
void log_text(struct log_line *line, const char *key, const char *value);
void log_number(struct log_line *line, const char *key, int64_t value);
void log_format(struct log_line *line, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
void log_end(struct log_line *line);

/* A whole line from pairs of strings, closed by NULL: LOG_EVENT(LOG_WARN, "folder_not_watched", "folder", path, "why",
 * why) */
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));
#define LOG_EVENT(level, ...)                                                                                          \
    do {                                                                                                               \
        if (log_enabled(level)) {                                                                                      \
            log_event(level, __VA_ARGS__, (char *)NULL);                                                               \
        }                                                                                                              \
    } while (0)

/* Names for configuration: "error" … "debug"; "logfmt", "json". Return false, writing nothing, on others. */
bool log_level_parse(struct slice name, enum log_level *level);
bool log_format_parse(struct slice name, enum log_format *format);
const char *log_level_name(enum log_level level);
const char *log_format_name(enum log_format format);

#endif
