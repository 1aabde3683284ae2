#include "cli/verb.h"

#include "cli/shown.h"

#include <stdio.h>
#include <string.h>

enum cli_exit cli_refused(struct cli *cli, enum api_result result)
{
    const struct api_problem *problem = api_problem(cli->api);
    if (result == API_STOPPED) {
        return CLI_DONE;
    }
    if (problem->document == NULL) {
        cli_say_error(cli, problem->code, problem->message, problem->remedy);
    } else {
        if (cli->json) {
            cli_print_json(problem->document);
        }
        shown_problem(cli->program, problem->message, problem->remedy);
    }
    return result == API_GONE ? CLI_NO_SERVER : CLI_FAILED;
}

/* A text of the system's may be in any encoding; JSON has UTF-8 alone. */
static json_t *any_text(const char *text)
{
    char escaped[4096];
    json_t *json = json_string(text);
    if (json == NULL) {
        shown_text(text, escaped, sizeof escaped);
        json = must(json_string(escaped));
    }
    return json;
}

void cli_say_error(const struct cli *cli, const char *code, const char *message, const char *remedy)
{
    if (cli->json) {
        json_t *document = must(json_pack("{s:{s:s, s:o, s:o}}", "error", "code", code, "message", any_text(message),
                                          "remedy", any_text(remedy)));
        cli_print_json(document);
        json_decref(document);
    }
    shown_problem(cli->program, message, remedy);
}

size_t cli_print_notes(const json_t *answer, size_t first)
{
    const json_t *notes = json_object_get(answer, "notes");
    for (size_t i = first; i < json_array_size(notes); i++) {
        const json_t *note = json_array_get(notes, i);
        shown_note("note", json_is_string(note) ? json_string_value(note) : "");
    }
    return json_array_size(notes);
}

enum cli_exit cli_answer(struct cli *cli, enum api_result result, json_t *reply, print_fn print)
{
    if (result != API_DONE) {
        return cli_refused(cli, result);
    }
    if (cli->json) {
        cli_print_json(reply);
    } else {
        print(cli, reply);
    }
    if (field_text(reply, "warning")[0] != '\0') {
        shown_note("warning", field_text(reply, "warning"));
    }
    json_decref(reply);
    return CLI_DONE;
}

enum cli_exit cli_change(struct cli *cli, const char *method, const struct api_path *path, const json_t *body,
                         print_fn print)
{
    json_t *reply = NULL;
    enum api_result result = api_call(cli->api, method, path, body, &reply);
    return cli_answer(cli, result, reply, print);
}

void cli_image_text(const json_t *image, const char *const *members, char *to, size_t size)
{
    static const char *const labelled[] = { "version", "md5" };
    size_t used = 0;
    to[0] = '\0';
    for (; *members != NULL; members++) {
        char bytes[SHOWN_SIZE];
        const char *text = field_text(image, *members), *label = "";
        if (strcmp(*members, "bytes") == 0) {
            text = shown_bytes(field_number(image, "bytes"), bytes);
        }
        for (size_t i = 0; i < sizeof labelled / sizeof labelled[0]; i++) {
            label = strcmp(*members, labelled[i]) == 0 ? labelled[i] : label;
        }
        bool says = text[0] != '\0' && strcmp(text, "unknown chip") != 0; /* as the server calls a file system's */
        if (says && used < size) {
            used += (size_t)snprintf(to + used, size - used, "%s%s%s%s", used > 0 ? ", " : "", label,
                                     label[0] != '\0' ? " " : "", text);
        }
    }
}

void cli_print_json(const json_t *document)
{
    /* ASCII alone: JSON has escapes for what a terminal would obey. Reals as short as they were. */
    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
    putchar('\n');
}
