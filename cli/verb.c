#include "cli/verb.h"

#include "cli/shown.h"

#include <stdio.h>

enum cli_exit cli_refused(struct cli *cli, enum api_result result)
{
    const struct api_problem *problem = api_problem(cli->api);
    if (result == API_STOPPED) {
        return CLI_DONE;
    }
    if (cli->json && problem->document != NULL) {
        cli_print_json(problem->document);
    }
    shown_problem(cli->program, problem->message, problem->remedy);
    return result == API_GONE ? CLI_NO_SERVER : CLI_FAILED;
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
    json_decref(reply);
    return CLI_DONE;
}

void cli_print_json(const json_t *document)
{
    /* ASCII alone: JSON has escapes for what a terminal would obey. Reals as short as they were. */
    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
    putchar('\n');
}
