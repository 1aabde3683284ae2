/* Whatever answers the operator's program: it says in plain characters what it makes of it, and ends with an exit code
 * of its own. libcurl is not there: its calls end here.
 *
 * Input: a byte of which verb, a byte of how (1: --json), then answers with 0xff between: a digit for the status (2, 4,
 * 5; else nobody answers), and the body. Each call takes one.
 */
#include "base/text.h"
#include "cli/follow.h"
#include "cli/verb.h"

#include <assert.h>
#include <curl/curl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#undef curl_easy_setopt
#undef curl_easy_getinfo

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORDS_MAX 6
#define BETWEEN   '\xff'

static const struct {
    const struct verb *verb;
    const char *words[WORDS_MAX];
} calls[] = {
    { &verb_status, { NULL } },
    { &verb_explain, { "d1_mini", "--mac", "5c:cf:7f:b1:e0:42" } },
    { &verb_explain, { "5c:cf:7f:b1:e0:42" } },
    { &verb_firmware_ls, { NULL } },
    { &verb_firmware_rejected, { NULL } },
    { &verb_firmware_rm, { "door/1.0.bin" } },
    { &verb_devices_ls, { NULL } },
    { &verb_devices_show, { "5c:cf:7f:b1:e0:42" } },
    { &verb_devices_groups, { NULL } },
    { &verb_devices_pin, { "5c:cf:7f:b1:e0:42", "1.0" } },
    { &verb_devices_assign, { "5c:cf:7f:b1:e0:42", "door", "DOOR-7" } },
    { &verb_devices_retry, { "5c:cf:7f:b1:e0:42" } },
    { &verb_devices_forget, { "5c:cf:7f:b1:e0:42" } },
    { &verb_rollouts_ls, { NULL } },
    { &verb_rollouts_show, { "d1_mini" } },
    { &verb_rollouts_abort, { "03341100fa2f5665" } },
    { &verb_publish_update, { "d1_mini", "--plan" } },
    { &verb_publish_update, { "d1_mini", "--no-wait" } },
    { &verb_publish_update, { "d1_mini" } },
    { &verb_publish_update, { "d1_mini", "--to", "5c:cf:7f:b1:e0:42" } },
    { &verb_token_ls, { NULL } },
    { &verb_token_new, { "ci" } },
    { &verb_token_revoke, { "ci" } },
    { &verb_audit, { NULL } },
};
#define CALLS (sizeof calls / sizeof calls[0])

/* --- who answers -------------------------------------------------------------------------------------------------- */

static struct {
    struct slice rest;
    long status;
    curl_write_callback take;
    void *owner;
} answers;

CURL *curl_easy_init(void)
{
    return (CURL *)&answers;
}

void curl_easy_cleanup(CURL *curl)
{
    (void)curl;
}

void curl_easy_reset(CURL *curl)
{
    (void)curl;
}

CURLcode curl_easy_setopt(CURL *curl, CURLoption option, ...)
{
    va_list list;
    (void)curl;
    va_start(list, option);
    if (option == CURLOPT_WRITEFUNCTION) {
        answers.take = va_arg(list, curl_write_callback);
    } else if (option == CURLOPT_WRITEDATA) {
        answers.owner = va_arg(list, void *);
    }
    va_end(list);
    return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *curl, CURLINFO info, ...)
{
    va_list list;
    (void)curl;
    va_start(list, info);
    *va_arg(list, long *) = info == CURLINFO_RESPONSE_CODE ? answers.status : 0;
    va_end(list);
    return CURLE_OK;
}

CURLcode curl_easy_perform(CURL *curl)
{
    (void)curl;
    if (answers.rest.len == 0) {
        return CURLE_OPERATION_TIMEDOUT;
    }
    const char *end = memchr(answers.rest.at, BETWEEN, answers.rest.len);
    size_t n = end != NULL ? (size_t)(end - answers.rest.at) : answers.rest.len;
    struct slice answer = { answers.rest.at, n };
    n += end != NULL;
    answers.rest = (struct slice){ answers.rest.at + n, answers.rest.len - n };
    if (answer.len == 0 || memchr("245", answer.at[0], 3) == NULL) {
        return CURLE_GOT_NOTHING;
    }
    answers.status = (answer.at[0] - '0') * 100L + (answer.at[0] == '4' ? 4 : 0);
    char *body = malloc(answer.len); /* to the byte */
    assert(body != NULL);
    memcpy(body, answer.at + 1, answer.len - 1);
    size_t taken = answers.take(body, 1, answer.len - 1, answers.owner);
    free(body);
    return taken == answer.len - 1 ? CURLE_OK : CURLE_WRITE_ERROR;
}

/* --- what is said ------------------------------------------------------------------------------------------------- */

static void check_plain(const char *text, size_t n, bool json)
{
    for (size_t i = 0; i < n; i++) {
        assert(text[i] == '\n' || (text[i] >= 0x20 && text[i] <= 0x7e) || (json && text[i] == 0x7f));
    }
}

/* The streams of the program are of memory meanwhile. */
static enum cli_exit run(const struct verb *verb, const char *const *words, bool json)
{
    const char *argv[WORDS_MAX + 1];
    char message[1024], *texts[2] = { NULL, NULL };
    size_t sizes[2];
    int argc = 0;
    struct args args;
    struct server_place place = { .socket = "/nowhere/admin.sock" };
    FILE *before[2] = { stdout, stderr };
    for (; argc < WORDS_MAX && words[argc] != NULL; argc++) {
        argv[argc] = words[argc];
    }
    if (json) {
        argv[argc++] = "--json";
    }
    bool good = args_parse(&args, verb->flags, verb->dash_words, argc, argv, message, sizeof message);
    assert(good);
    (void)good;
    stdout = open_memstream(&texts[0], &sizes[0]);
    stderr = open_memstream(&texts[1], &sizes[1]);
    assert(stdout != NULL && stderr != NULL);
    struct cli cli = { "updraft", &args, api_client_new(&place), json };
    enum cli_exit code = verb->run(&cli);
    api_client_free(cli.api);
    fclose(stdout);
    fclose(stderr);
    stdout = before[0];
    stderr = before[1];
    args_close(&args);
    check_plain(texts[0], sizes[0], json);
    check_plain(texts[1], sizes[1], false);
    assert(code != CLI_DONE || sizes[0] + sizes[1] > 0);
    assert(code == CLI_DONE || sizes[1] > 0);
    free(texts[0]);
    free(texts[1]);
    return code;
}

/* As on a terminal, where a block must keep its width. */
static void try_block(const char *text, size_t n, size_t width)
{
    struct progress progress;
    static struct progress_pace pace;
    struct block block;
    json_t *rollout = json_loadb(text, n, 0, NULL);
    follow_read(rollout, &progress);
    memset(&pace, 0, sizeof pace);
    progress_pace_update(&pace, &progress, 1);
    progress_pace_update(&pace, &progress, 2);
    progress_block(&progress, &pace, field_text(rollout, "note"), width, false, &block);
    assert(block.count <= BLOCK_LINES);
    for (size_t i = 0; i < block.count; i++) {
        assert(block.columns[i] < width && strlen(block.lines[i]) < sizeof block.lines[i]);
    }
    json_decref(rollout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready) { /* who watches a rollout is told to end after the first look, once and for all */
        static const char begun[] = "2{\"id\":\"a\",\"state\":\"active\"}";
        const struct itimerspec soon = { .it_value = { .tv_nsec = 20 * 1000 * 1000 } };
        timer_t timer;
        struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGINT };
        ready = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &soon, NULL) == 0;
        assert(ready);
        answers.rest = slice_of(begun);
        (void)run(&verb_publish_update, (const char *const[]){ "d1_mini", NULL }, false);
        timer_delete(timer);
    }
    if (size < 3) {
        return 0;
    }
    answers.rest = (struct slice){ (const char *)data + 2, size - 2 };
    try_block((const char *)data + 3, size - 3, 20 + data[1]);
    enum cli_exit code = run(calls[data[0] % CALLS].verb, calls[data[0] % CALLS].words, (data[1] & 1) != 0);
    assert(code <= CLI_NO_SERVER);
    (void)code;
    return 0;
}
