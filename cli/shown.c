#include "cli/shown.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WIDTH_FALLBACK  80 /* of a terminal that does not say */
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* One byte as it is shown; returns its characters, at most 4. */
static size_t shown_byte(unsigned char byte, char to[5])
{
    if (byte >= 0x20 && byte < 0x7f) {
        to[0] = (char)byte;
        to[1] = '\0';
        return 1;
    }
    snprintf(to, 5, "\\x%02x", byte);
    return 4;
}

size_t shown_text(const char *text, char *to, size_t size)
{
    size_t used = 0;
    char piece[5];
    for (; *text != '\0'; text++) {
        size_t n = shown_byte((unsigned char)*text, piece);
        if (used + n >= size) {
            break;
        }
        memcpy(to + used, piece, n);
        used += n;
    }
    to[used] = '\0';
    return used;
}

void shown_print(FILE *to, const char *text)
{
    char piece[5];
    for (; *text != '\0'; text++) {
        shown_byte((unsigned char)*text, piece);
        fputs(piece, to);
    }
}

size_t shown_width(FILE *to)
{
    struct winsize size;
    if (!isatty(fileno(to))) {
        return 0;
    }
    return ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : WIDTH_FALLBACK;
}

void shown_wrapped(FILE *to, const char *text, size_t column, size_t indent, size_t width)
{
    char piece[5];
    while (*text != '\0') {
        size_t blanks = strspn(text, " "), end = blanks + strcspn(text + blanks, " "), columns = 0;
        for (size_t i = 0; i < end; i++) {
            columns += shown_byte((unsigned char)text[i], piece);
        }
        if (width > 0 && column > indent && column + columns >= width) {
            fprintf(to, "\n%*s", (int)indent, "");
            column = indent;
            columns -= blanks;
            end -= blanks;
            text += blanks;
        }
        for (size_t i = 0; i < end; i++) {
            shown_byte((unsigned char)text[i], piece);
            fputs(piece, to);
        }
        column += columns;
        text += end;
    }
}

const char *shown_bytes(uint64_t bytes, char to[SHOWN_SIZE])
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
    if (bytes < 1024) {
        snprintf(to, SHOWN_SIZE, "%" PRIu64 " B", bytes);
        return to;
    }
    double value = (double)bytes / 1024;
    size_t i = 0;
    /* 1023.95 would be printed as 1024.0 */
    while (value >= 1023.95 && i + 1 < COUNT_OF(units)) {
        value /= 1024;
        i++;
    }
    snprintf(to, SHOWN_SIZE, "%.1f %s", value, units[i]);
    return to;
}

const char *shown_clock(uint64_t seconds, char to[SHOWN_SIZE])
{
    uint64_t hours = seconds / 3600, minutes = seconds / 60 % 60;
    if (hours > 0) {
        snprintf(to, SHOWN_SIZE, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, hours, minutes, seconds % 60);
    } else {
        snprintf(to, SHOWN_SIZE, "%" PRIu64 ":%02" PRIu64, minutes, seconds % 60);
    }
    return to;
}

const char *shown_age(uint64_t seconds, char to[SHOWN_SIZE])
{
    static const struct {
        uint64_t seconds;
        const char *unit;
    } units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } };
    size_t i = 0;
    while (i + 1 < COUNT_OF(units) && seconds < units[i].seconds) {
        i++;
    }
    uint64_t rest = i + 1 < COUNT_OF(units) ? seconds % units[i].seconds / units[i + 1].seconds : 0;
    int n = snprintf(to, SHOWN_SIZE, "%" PRIu64 " %s", seconds / units[i].seconds, units[i].unit);
    if (rest > 0) {
        snprintf(to + n, SHOWN_SIZE - (size_t)n, " %" PRIu64 " %s", rest, units[i + 1].unit);
    }
    return to;
}

const char *shown_ago(const char *moment, char to[SHOWN_SIZE])
{
    struct tm utc = { 0 };
    to[0] = '\0';
    if (strptime(moment, "%Y-%m-%dT%H:%M:%S", &utc) != NULL) {
        time_t then = timegm(&utc), now = time(NULL);
        char age[SHOWN_SIZE]; /* clocks of two machines differ a little */
        snprintf(to, SHOWN_SIZE, "%s ago", shown_age(now > then ? (uint64_t)(now - then) : 0, age));
    }
    return to;
}

const char *shown_count(uint64_t n, const char *noun, char to[SHOWN_SIZE])
{
    snprintf(to, SHOWN_SIZE, "%" PRIu64 " %s%s", n, noun, n == 1 ? "" : "s");
    return to;
}

void shown_note(const char *label, const char *text)
{
    fflush(stdout); /* what was said before stands before */
    size_t column = strlen(label) + 2;
    fprintf(stderr, "%s: ", label);
    shown_wrapped(stderr, text, column, column, shown_width(stderr));
    fputc('\n', stderr);
}

void shown_problem(const char *program, const char *message, const char *remedy)
{
    shown_note(program, message);
    if (remedy != NULL && remedy[0] != '\0') {
        shown_note("  remedy", remedy);
    }
}

void *must(void *memory)
{
    if (memory == NULL) {
        fputs("updraft: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}
