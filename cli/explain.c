/* explain: what a device with this MAC, version and digest would be answered, and why. */
#include "cli/shown.h"
#include "cli/verb.h"

#include <inttypes.h>
#include <string.h>

static const struct flag flags[] = {
    { "mac", FLAG_MAC, "MAC", "the device, such as 5c:cf:7f:b1:e0:42" },
    { "version", FLAG_TEXT, "V", "the version that it says it runs, such as 0.4.9" },
    { "md5", FLAG_MD5, "MD5", "the MD5 that it reports of its sketch: 32 hexadecimal digits" },
    { "sha256", FLAG_SHA256, "SHA256", "the SHA-256 that an ESP32 reports of its sketch: 64 hexadecimal digits" },
    { "mode", FLAG_CHOICE, "sketch|fs|version", "what it asks for (default: sketch)" },
    { "client", FLAG_CHOICE, "esp8266|esp32|native",
      "who asks (default: esp8266; native where a type has slots alone)" },
    { "flash", FLAG_BYTES, "SIZE", "its flash chip: bytes, or 512K, 4M" },
    { "free", FLAG_BYTES, "SIZE", "the room that it has for an update: bytes, or 512K, 4M" },
    { "size", FLAG_BYTES, "SIZE", "the size of its running sketch: bytes, or 512K, 4M" },
    COMMON_FLAGS,
};

static void print_line(const char *label, const char *text)
{
    if (text[0] != '\0') {
        printf("%-9s", label);
        shown_wrapped(stdout, text, 9, 9, shown_width(stdout));
        putchar('\n');
    }
}

/* What to do next: as the server says, a sentence or several; or what would make the answer surer. */
static void print_next(const struct cli *cli, const json_t *reply)
{
    const json_t *next = json_object_get(reply, "next"), *step;
    const char *word = cli->args->word_count > 0 ? cli->args->words[0] : "";
    char mac[ARGS_MAC_SIZE], line[120];
    size_t i;
    if (strcmp(field_text(reply, "reason"), "unknown-type") == 0 && args_mac(word, mac)) {
        snprintf(line, sizeof line, "the first word is a type, and this is a MAC: did you mean --mac %s?", mac);
        print_line("next", line);
    }
    json_array_foreach(next, i, step)
    {
        print_line("next", json_is_string(step) ? json_string_value(step) : "");
    }
    if (next != NULL) {
        print_line("next", field_text(reply, "next"));
    } else if (strcmp(field_text(reply, "reason"), "unknown-build") == 0 && !args_has(cli->args, "md5") &&
               !args_has(cli->args, "sha256")) {
        print_line("next", "give what the device reports, and the answer is the one that it will get: --version V, and "
                           "--md5 MD5 (of an ESP32: --client esp32 --sha256 SHA256)");
    }
}

static void print_explanation(const struct cli *cli, const json_t *reply)
{
    static const char *const members[] = { "file", "version", "bytes", "chip", "md5", NULL };
    char text[1024];
    const json_t *running = json_object_get(reply, "running"), *image = json_object_get(reply, "image");
    const json_t *assignment = json_object_get(reply, "assignment");
    shown_print(stdout, field_text(reply, "text"));
    putchar('\n');
    snprintf(text, sizeof text, "%s (status %" PRIu64 ")", field_text(reply, "reason"), field_number(reply, "status"));
    print_line("reason", text);
    print_line("type", field_text(reply, "type"));
    print_line("known", field_text(json_object_get(reply, "remembered"), "text"));
    if (json_is_object(assignment)) {
        snprintf(text, sizeof text, "%s %s", field_text(assignment, "type"), field_text(assignment, "label"));
        print_line(field_true(assignment, "pinned") ? "pinned" : "assigned", text);
    }
    if (json_is_object(running)) {
        const char *mode = field_text(running, "flash_mode");
        snprintf(text, sizeof text, "%s, version %s%s%s", field_text(running, "file"), field_text(running, "version"),
                 mode[0] != '\0' ? ", flash mode " : "", mode);
        print_line("running", text);
    }
    if (json_is_object(image)) {
        cli_image_text(image, members, text, sizeof text);
        print_line("image", text);
    }
    if (strstr(field_text(reply, "text"), field_text(reply, "detail")) == NULL) {
        print_line("detail", field_text(reply, "detail"));
    }
    print_next(cli, reply);
}

static enum cli_exit run(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, "/api/v1/explain");
    api_path_query(&path, "type", cli->args->word_count > 0 ? cli->args->words[0] : NULL);
    for (const struct flag *flag = flags; flag->kind != FLAG_SWITCH; flag++) {
        api_path_query(&path, flag->name, args_get(cli->args, flag->name));
    }
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_explanation);
}

const struct verb verb_explain = {
    .name = "explain",
    .words = "[TYPE]",
    .words_max = 1,
    .flags = flags,
    .summary = "say what a device would be answered, and why",
    .more =
        "Asks as the device would, and records nothing. Without TYPE the assignment of --mac counts. What is not said "
        "of a device that has asked before is taken from its last check (known).",
    .run = run,
};
