/* token: names who may use the admin API over TCP. The server keeps a hash alone, so a token is shown once. */
#include "cli/shown.h"
#include "cli/table.h"
#include "cli/verb.h"

static const struct flag flags[] = { COMMON_FLAGS };

#define TOKENS "/api/v1/tokens"

static void print_names(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    static const struct table_column columns[] = { { "NAME", TABLE_LEFT }, { "CREATED", TABLE_LEFT } };
    const json_t *tokens = json_object_get(reply, "tokens"), *token;
    if (json_array_size(tokens) == 0) {
        puts("there are no tokens; \"updraft token new NAME\" makes one");
        return;
    }
    struct table *table = table_new(columns, 2);
    size_t i;
    json_array_foreach(tokens, i, token)
    {
        table_row(table, (const char *const[]){ field_text(token, "name"), field_text(token, "created") });
    }
    table_print(table, stdout);
    table_free(table);
}

static enum cli_exit run_ls(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, TOKENS);
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_names);
}

/* The token stands alone on stdout, so that it can go straight into a file. */
static void print_token(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    shown_print(stdout, field_text(reply, "token"));
    putchar('\n');
    fflush(stdout);
    fputs("This is the only time that it is shown. Keep it in a file that only you can read, and name that file in\n"
          "UPDRAFT_TOKEN_FILE.\n",
          stderr);
}

static enum cli_exit run_new(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL, *name = json_string(cli->args->words[0]);
    if (name == NULL) {
        shown_problem(cli->program, "the name is not valid UTF-8", "use letters, digits, \"-\" and \"_\"");
        return CLI_USAGE;
    }
    json_t *order = must(json_object());
    json_object_set_new(order, "name", name);
    api_path_begin(&path, TOKENS);
    enum api_result result = api_call(cli->api, "POST", &path, order, &reply);
    json_decref(order);
    return cli_answer(cli, result, reply, print_token);
}

static void print_removed(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    printf("removed ");
    shown_print(stdout, field_text(reply, "removed"));
    puts("; who uses it is refused from now on");
}

static enum cli_exit run_rm(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, TOKENS);
    api_path_name(&path, cli->args->words[0]);
    enum api_result result = api_call(cli->api, "DELETE", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_removed);
}

const struct verb verb_token_ls = {
    .name = "token",
    .sub = "ls",
    .words = "",
    .flags = flags,
    .summary = "list the tokens by name",
    .more = "",
    .run = run_ls,
};
const struct verb verb_token_new = {
    .name = "token",
    .sub = "new",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .flags = flags,
    .summary = "make a token for the admin API over TCP, shown this once",
    .more = "",
    .run = run_new,
};
const struct verb verb_token_rm = {
    .name = "token",
    .sub = "rm",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .flags = flags,
    .summary = "make a token worthless",
    .more = "",
    .run = run_rm,
};
