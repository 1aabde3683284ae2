/* What is logged meanwhile: lines go to stderr, which is a file then. */
#ifndef TESTS_SUPPORT_CAPTURED_LOG_H
#define TESTS_SUPPORT_CAPTURED_LOG_H

#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static int saved_stderr, log_file;

static inline void capture_log(enum log_level level)
{
    log_configure(level, LOG_LOGFMT);
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    log_file = memfd_create("captured_log", MFD_CLOEXEC);
    assert_true(saved_stderr >= 0 && log_file >= 0 && dup2(log_file, STDERR_FILENO) >= 0);
}

static inline const char *captured_log(void)
{
    static char text[65536];
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    ssize_t n = pread(log_file, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    close(log_file);
    log_configure(LOG_ERROR, LOG_LOGFMT);
    return text;
}

static inline unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        n++;
    }
    return n;
}

#endif
