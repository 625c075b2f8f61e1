/* Reads input frames and writes output frames as it is told, line by line on
 * its standard input, for the test that knows what comes out. Bytes are
 * hexadecimal digits behind an x.
 *
 *     input FRAME             prints what is in it, or "refused"
 *     output SIZE             begins an answer in so many bytes
 *     set|append|remove NAME VALUE,  log LEVEL TEXT,  body BYTES,  context BYTES,
 *     allow STATUS,  deny STATUS
 *     finish                  prints the frame, or "full"
 *     handle FRAME            prints what the plugin below answers */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vortex_plugin.h"

static int32_t check(const vortex_input *input, vortex_output *output)
{
    vortex_bytes key;
    if (!vortex_header(input, "X-Api-Key", &key)) {
        vortex_deny(output, 401);
        return VORTEX_OK;
    }
    if (!vortex_same(key, VORTEX_TEXT("k-demo-123")))
        return VORTEX_FAILED;
    return vortex_set_header(output, "x-consumer", VORTEX_TEXT("demo"));
}

VORTEX_PLUGIN(check)

static char line[1 << 20];

/* Memory of exactly that size, so that one byte too far is noticed. */
static uint8_t *exactly(size_t size)
{
    uint8_t *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL)
        abort();
    return memory;
}

/* The next word of the line. */
static char *word(void)
{
    char *found = strtok(NULL, " \n");
    if (found == NULL)
        abort();
    return found;
}

static vortex_bytes bytes(void)
{
    const char *digits = word() + 1;
    size_t length = strlen(digits) / 2, i;
    uint8_t *memory = exactly(length);
    for (i = 0; i < length; i++) {
        unsigned value;
        if (sscanf(digits + 2 * i, "%2x", &value) != 1)
            abort();
        memory[i] = (uint8_t)value;
    }
    return vortex_make_bytes(memory, (uint32_t)length);
}

static void release(vortex_bytes owned)
{
    free((void *)(uintptr_t)owned.at);
}

static void print(const char *before, vortex_bytes shown)
{
    uint32_t i;
    printf("%sx", before);
    for (i = 0; i < shown.length; i++)
        printf("%02x", shown.at[i]);
}

static void print_input(vortex_bytes frame)
{
    static const int fields[] = {VORTEX_METHOD, VORTEX_PATH, VORTEX_QUERY, VORTEX_SCHEME,
                                 VORTEX_AUTHORITY, VORTEX_REMOTE, VORTEX_ROUTE, VORTEX_BODY,
                                 VORTEX_CONFIG, VORTEX_CONTEXT};
    vortex_input input;
    uint32_t i;
    if (vortex_parse(&input, frame.at, frame.length) != VORTEX_OK) {
        puts("refused");
        return;
    }
    printf("%d %d %d %d %llu", vortex_phase(&input), vortex_status(&input),
           vortex_has_headers(&input), vortex_has_body(&input),
           (unsigned long long)vortex_body_length(&input));
    for (i = 0; i < sizeof fields / sizeof fields[0]; i++)
        print(" ", vortex_field(&input, fields[i]));
    for (i = 0; i < vortex_header_count(&input); i++) {
        vortex_bytes name = vortex_header_name(&input, i), found = vortex_header_value(&input, i);
        char upper[256];
        uint32_t at;
        print(" ", name);
        print(" ", found);
        /* Looked up by its name in upper case, the first value is found. */
        for (at = 0; at < name.length && at < sizeof upper - 1; at++)
            upper[at] = (char)(name.at[at] >= 'a' && name.at[at] <= 'z' ? name.at[at] - 32
                                                                        : name.at[at]);
        upper[at] = 0;
        if (!vortex_header(&input, upper, &found))
            printf(" none");
        else
            print(" ", found);
    }
    puts("");
}

int main(void)
{
    vortex_output output;
    uint8_t *buffer = NULL;
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *command = strtok(line, " \n");
        if (command == NULL)
            abort();
        if (strcmp(command, "input") == 0) {
            vortex_bytes frame = bytes();
            print_input(frame);
            release(frame);
        } else if (strcmp(command, "output") == 0) {
            uint32_t size = (uint32_t)atoi(word());
            buffer = exactly(size);
            vortex_begin(&output, buffer, size);
        } else if (strcmp(command, "set") == 0 || strcmp(command, "append") == 0
                   || strcmp(command, "remove") == 0) {
            vortex_bytes name = bytes(), value = bytes();
            char *text = (char *)exactly(name.length + 1u);
            memcpy(text, name.at, name.length);
            text[name.length] = 0;
            if (command[0] == 's')
                vortex_set_header(&output, text, value);
            else if (command[0] == 'a')
                vortex_append_header(&output, text, value);
            else
                vortex_remove_header(&output, text);
            free(text);
            release(name);
            release(value);
        } else if (strcmp(command, "log") == 0) {
            int level = atoi(word());
            vortex_bytes text = bytes();
            vortex_log(&output, level, text);
            release(text);
        } else if (strcmp(command, "body") == 0 || strcmp(command, "context") == 0) {
            vortex_bytes given = bytes();
            if (command[0] == 'b')
                vortex_set_body(&output, given);
            else
                vortex_set_context(&output, given);
            release(given);
        } else if (strcmp(command, "allow") == 0) {
            vortex_allow(&output);
            vortex_set_status(&output, (uint16_t)atoi(word()));
        } else if (strcmp(command, "deny") == 0) {
            vortex_deny(&output, (uint16_t)atoi(word()));
        } else if (strcmp(command, "finish") == 0) {
            int32_t length = vortex_finish(&output);
            if (length < 0)
                printf("full");
            else
                print("", vortex_make_bytes(buffer, (uint32_t)length));
            puts("");
            free(buffer);
        } else if (strcmp(command, "handle") == 0) {
            vortex_bytes frame = bytes();
            int32_t length;
            if (vortex_abi_v2() == 0 || frame.length > sizeof vortex_input_buffer)
                abort();
            memcpy(vortex_input_buffer, frame.at, frame.length);
            length = vortex_handle((int32_t)frame.length);
            printf("%d", length);
            print(" ", vortex_make_bytes(vortex_output_buffer, length < 0 ? 0 : (uint32_t)length));
            puts("");
            release(frame);
        } else {
            abort();
        }
    }
    return 0;
}
