#include "cli/shown.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
    if (i + 1 == COUNT_OF(units)) {
        snprintf(to, SHOWN_SIZE, "%" PRIu64 " s", seconds);
    } else {
        snprintf(to, SHOWN_SIZE, "%" PRIu64 " %s %" PRIu64 " %s", seconds / units[i].seconds, units[i].unit,
                 seconds % units[i].seconds / units[i + 1].seconds, units[i + 1].unit);
    }
    return to;
}

const char *shown_count(uint64_t n, const char *noun, char to[SHOWN_SIZE])
{
    snprintf(to, SHOWN_SIZE, "%" PRIu64 " %s%s", n, noun, n == 1 ? "" : "s");
    return to;
}

void shown_problem(const char *program, const char *message, const char *remedy)
{
    fflush(stdout); /* what was said before stands before */
    fprintf(stderr, "%s: ", program);
    shown_print(stderr, message);
    fputc('\n', stderr);
    if (remedy != NULL && remedy[0] != '\0') {
        fputs("  remedy: ", stderr);
        shown_print(stderr, remedy);
        fputc('\n', stderr);
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
