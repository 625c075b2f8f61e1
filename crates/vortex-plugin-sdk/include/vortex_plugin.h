/* Write a Vortex plugin in C: the frame ABI (docs/abi-frame.md) in one header.
 *
 *     #include "vortex_plugin.h"
 *
 *     static int32_t check(const vortex_input *input, vortex_output *output)
 *     {
 *         vortex_bytes key;
 *         if (vortex_header(input, "x-api-key", &key) && vortex_same(key, VORTEX_TEXT("k-1")))
 *             return vortex_set_header(output, "x-consumer", VORTEX_TEXT("demo"));
 *         vortex_deny(output, 401);
 *         return VORTEX_OK;
 *     }
 *
 *     VORTEX_PLUGIN(check)
 *
 * C99, no libc:
 *
 *     clang --target=wasm32 -std=c99 -O2 -ffreestanding -nostdlib -Wl,--no-entry plugin.c -o plugin.wasm
 *
 * What comes from the host is read where it lies. A function that reads gives
 * empty bytes for what is not there or reaches outside the frame, which no
 * host writes. An answer that has not enough room fails the call, whether or
 * not the plugin looks at what the functions return.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifndef VORTEX_PLUGIN_H
#define VORTEX_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

/* The sizes of the two buffers that VORTEX_PLUGIN makes, in bytes. */
#ifndef VORTEX_INPUT_SIZE
#define VORTEX_INPUT_SIZE (192 * 1024)
#endif
#ifndef VORTEX_OUTPUT_SIZE
#define VORTEX_OUTPUT_SIZE (64 * 1024)
#endif

/* What a hook, and each function that writes, returns. */
enum {
    VORTEX_OK = 0,
    /* What the host gave is no input frame. */
    VORTEX_MALFORMED = -1,
    /* The answer exceeds its buffer or a limit of the ABI. */
    VORTEX_FULL = -2,
    /* The plugin itself says that it has failed. */
    VORTEX_FAILED = -3
};

/* When a hook is asked. */
enum {
    VORTEX_PRE_REQUEST = 0,
    VORTEX_POST_RESPONSE = 1,
    VORTEX_ON_CONNECT = 2,
    VORTEX_ON_CLOSE = 3
};

/* How much a log line matters. */
enum {
    VORTEX_ERROR = 0,
    VORTEX_WARNING = 1,
    VORTEX_INFO = 2,
    VORTEX_DEBUG = 3,
    VORTEX_TRACE = 4
};

/* The fields of an input frame that are bytes, for vortex_field. */
enum {
    VORTEX_METHOD = 24,
    VORTEX_PATH = 32,
    VORTEX_QUERY = 40,
    VORTEX_SCHEME = 48,
    VORTEX_AUTHORITY = 56,
    VORTEX_REMOTE = 64,
    VORTEX_ROUTE = 72,
    VORTEX_BODY = 80,
    VORTEX_CONFIG = 88,
    VORTEX_CONTEXT = 96
};

/* Bytes of somebody else, not ended by a zero. */
typedef struct {
    const uint8_t *at;
    uint32_t length;
} vortex_bytes;

/* The bytes of a string literal. */
#define VORTEX_TEXT(literal) \
    (vortex_make_bytes((const uint8_t *)("" literal), (uint32_t)(sizeof(literal) - 1)))

static inline vortex_bytes vortex_make_bytes(const uint8_t *at, uint32_t length)
{
    vortex_bytes bytes;
    bytes.at = at;
    bytes.length = length;
    return bytes;
}

/* The bytes of a string that a zero ends. */
static inline vortex_bytes vortex_string(const char *text)
{
    uint32_t length = 0;
    while (text[length] != 0)
        length++;
    return vortex_make_bytes((const uint8_t *)text, length);
}

/* 1 when two byte strings are the same. */
static inline int vortex_same(vortex_bytes a, vortex_bytes b)
{
    uint32_t i;
    if (a.length != b.length)
        return 0;
    for (i = 0; i < a.length; i++)
        if (a.at[i] != b.at[i])
            return 0;
    return 1;
}

static inline uint8_t vortex_lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

/* 1 when two byte strings are the same without regard to ASCII case. */
static inline int vortex_same_ignoring_case(vortex_bytes a, vortex_bytes b)
{
    uint32_t i;
    if (a.length != b.length)
        return 0;
    for (i = 0; i < a.length; i++)
        if (vortex_lower(a.at[i]) != vortex_lower(b.at[i]))
            return 0;
    return 1;
}

static inline uint32_t vortex_read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void vortex_write_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

/* ---- Input ---- */

/* What a hook is asked: a frame that vortex_parse has checked. */
typedef struct {
    const uint8_t *frame;
    uint32_t length;
    uint32_t headers;
} vortex_input;

/* Reads a frame of that many bytes. VORTEX_OK or VORTEX_MALFORMED. */
static inline int32_t vortex_parse(vortex_input *input, const uint8_t *frame, uint32_t length)
{
    if (length < 104 || vortex_read_u32(frame) != length)
        return VORTEX_MALFORMED;
    if (frame[4] != 2 || frame[5] != 0 || frame[6] > VORTEX_ON_CLOSE)
        return VORTEX_MALFORMED;
    input->frame = frame;
    input->length = length;
    input->headers = vortex_read_u32(frame + 12);
    return input->headers <= (length - 104) / 16 ? VORTEX_OK : VORTEX_MALFORMED;
}

/* The bytes of the span at that place, which lies inside the frame. */
static inline vortex_bytes vortex_span(const vortex_input *input, uint32_t place)
{
    uint32_t start = vortex_read_u32(input->frame + place);
    uint32_t length = vortex_read_u32(input->frame + place + 4);
    if (start > input->length || length > input->length - start)
        return vortex_make_bytes(input->frame, 0);
    return vortex_make_bytes(input->frame + start, length);
}

/* VORTEX_PRE_REQUEST to VORTEX_ON_CLOSE. */
static inline int vortex_phase(const vortex_input *input)
{
    return input->frame[6];
}

/* The status of the response; 0 where there is none. */
static inline uint16_t vortex_status(const vortex_input *input)
{
    return (uint16_t)(input->frame[8] | input->frame[9] << 8);
}

/* A field, VORTEX_METHOD to VORTEX_CONTEXT. The body is its first 65,536 bytes
 * at most. */
static inline vortex_bytes vortex_field(const vortex_input *input, int field)
{
    return vortex_span(input, (uint32_t)field);
}

/* 1 when there is a body, maybe an empty one. */
static inline int vortex_has_body(const vortex_input *input)
{
    return input->frame[7] >> 1 & 1;
}

/* The length of the whole body in bytes, as far as the host knows it. */
static inline uint64_t vortex_body_length(const vortex_input *input)
{
    return (uint64_t)vortex_read_u32(input->frame + 16)
        | (uint64_t)vortex_read_u32(input->frame + 20) << 32;
}

/* 1 when there are headers, maybe none. */
static inline int vortex_has_headers(const vortex_input *input)
{
    return input->frame[7] & 1;
}

/* How many headers there are; one with several values counts for each. */
static inline uint32_t vortex_header_count(const vortex_input *input)
{
    return input->headers;
}

/* The name of a header by its number, in lower case. */
static inline vortex_bytes vortex_header_name(const vortex_input *input, uint32_t number)
{
    if (number >= input->headers)
        return vortex_make_bytes(input->frame, 0);
    return vortex_span(input, 104 + number * 16);
}

/* The value of a header by its number. */
static inline vortex_bytes vortex_header_value(const vortex_input *input, uint32_t number)
{
    if (number >= input->headers)
        return vortex_make_bytes(input->frame, 0);
    return vortex_span(input, 104 + number * 16 + 8);
}

/* The number of the first header of that name from `number` on, whatever the
 * case; vortex_header_count when there is none. */
static inline uint32_t vortex_find_header(const vortex_input *input, uint32_t number,
                                          const char *name)
{
    vortex_bytes wanted = vortex_string(name);
    for (; number < input->headers; number++) {
        /* Most names are told apart by their length. */
        if (vortex_read_u32(input->frame + 104 + number * 16 + 4) != wanted.length)
            continue;
        if (vortex_same_ignoring_case(vortex_header_name(input, number), wanted))
            return number;
    }
    return input->headers;
}

/* Gives the first value of a header, whatever the case of its name; 0 when
 * there is none. */
static inline int vortex_header(const vortex_input *input, const char *name, vortex_bytes *value)
{
    uint32_t number = vortex_find_header(input, 0, name);
    *value = vortex_header_value(input, number);
    return number < input->headers;
}

/* ---- Output ---- */

/* What a hook answers. Records stand at the front, the bytes that they name
 * behind them, and move when more records are needed. */
typedef struct {
    uint8_t *buffer;
    uint32_t size;
    uint32_t end;
    uint32_t operations;
    uint32_t operation_room;
    uint32_t lines;
    uint32_t line_room;
    uint32_t body;
    uint32_t body_length;
    uint32_t context;
    uint32_t context_length;
    uint16_t status;
    uint8_t denies;
    uint8_t flags;
    uint8_t full;
} vortex_output;

/* An answer that lets the message pass, written to `buffer`. */
static inline void vortex_begin(vortex_output *output, uint8_t *buffer, uint32_t size)
{
    output->buffer = buffer;
    output->size = size;
    output->end = 40 + 4 * 20;
    output->operations = 0;
    output->operation_room = 4;
    output->lines = 0;
    output->line_room = 0;
    output->body = 0;
    output->body_length = 0;
    output->context = 0;
    output->context_length = 0;
    output->status = 0;
    output->denies = 0;
    output->flags = 0;
    output->full = 0;
}

static inline int32_t vortex_overflow(vortex_output *output)
{
    output->full = 1;
    return VORTEX_FULL;
}

static inline uint32_t vortex_lines_at(const vortex_output *output)
{
    return 40 + output->operation_room * 20;
}

static inline uint32_t vortex_data_at(const vortex_output *output)
{
    return vortex_lines_at(output) + output->line_room * 12;
}

/* Adds to the offset of the span at that place, unless it is empty. */
static inline void vortex_shift(vortex_output *output, uint32_t place, uint32_t added)
{
    uint8_t *at = output->buffer + place;
    if (vortex_read_u32(at + 4) > 0)
        vortex_write_u32(at, vortex_read_u32(at) + added);
}

/* Makes room for more records: from 4 on fourfold, and no more than the most. */
static inline int32_t vortex_grow(vortex_output *output, uint32_t *room, uint32_t most,
                                  uint32_t size, uint32_t from)
{
    uint32_t grown = *room == 0 ? 4 : *room * 4;
    uint32_t added, i;
    if (grown > most)
        grown = most;
    added = (grown - *room) * size;
    if (added == 0 || output->end > output->size || added > output->size - output->end)
        return vortex_overflow(output);
    for (i = output->end; i > from; i--)
        output->buffer[i - 1 + added] = output->buffer[i - 1];
    *room = grown;
    output->end += added;
    for (i = 0; i < output->operations; i++) {
        vortex_shift(output, 40 + i * 20 + 4, added);
        vortex_shift(output, 40 + i * 20 + 12, added);
    }
    for (i = 0; i < output->lines; i++)
        vortex_shift(output, vortex_lines_at(output) + i * 12 + 4, added);
    if (output->body_length > 0)
        output->body += added;
    if (output->context_length > 0)
        output->context += added;
    return VORTEX_OK;
}

/* Writes bytes behind what there is, and gives their offset. */
static inline int32_t vortex_put(vortex_output *output, vortex_bytes bytes, uint32_t *offset)
{
    uint32_t i;
    *offset = 0;
    if (bytes.length == 0)
        return VORTEX_OK;
    if (output->end > output->size || bytes.length > output->size - output->end)
        return vortex_overflow(output);
    for (i = 0; i < bytes.length; i++)
        output->buffer[output->end + i] = bytes.at[i];
    *offset = output->end;
    output->end += bytes.length;
    return VORTEX_OK;
}

static inline int32_t vortex_operation(vortex_output *output, uint32_t kind, const char *name,
                                       vortex_bytes value)
{
    vortex_bytes name_bytes = vortex_string(name);
    uint32_t name_at, value_at;
    uint8_t *record;
    if (output->operations == output->operation_room
        && vortex_grow(output, &output->operation_room, 1024, 20, vortex_lines_at(output)) != 0)
        return VORTEX_FULL;
    if (vortex_put(output, name_bytes, &name_at) != 0 || vortex_put(output, value, &value_at) != 0)
        return VORTEX_FULL;
    if (output->end > output->size)
        return vortex_overflow(output);
    record = output->buffer + 40 + output->operations * 20;
    vortex_write_u32(record, kind);
    vortex_write_u32(record + 4, name_at);
    vortex_write_u32(record + 8, name_bytes.length);
    vortex_write_u32(record + 12, value_at);
    vortex_write_u32(record + 16, value.length);
    output->operations++;
    return VORTEX_OK;
}

/* Lets the message pass, which is what an answer does unless told otherwise. */
static inline void vortex_allow(vortex_output *output)
{
    output->denies = 0;
    output->status = 0;
}

/* Turns the message away with a status of 300 to 999; 0 leaves it to the host. */
static inline void vortex_deny(vortex_output *output, uint16_t status)
{
    output->denies = 1;
    output->status = status;
}

/* Sets the status, 100 to 999, whatever the verdict. */
static inline void vortex_set_status(vortex_output *output, uint16_t status)
{
    output->status = status;
}

/* Replaces all values of a header by one. VORTEX_OK or VORTEX_FULL. */
static inline int32_t vortex_set_header(vortex_output *output, const char *name,
                                        vortex_bytes value)
{
    return vortex_operation(output, 0, name, value);
}

/* Adds a value to a header. VORTEX_OK or VORTEX_FULL. */
static inline int32_t vortex_append_header(vortex_output *output, const char *name,
                                           vortex_bytes value)
{
    return vortex_operation(output, 1, name, value);
}

/* Removes all values of a header. VORTEX_OK or VORTEX_FULL. */
static inline int32_t vortex_remove_header(vortex_output *output, const char *name)
{
    return vortex_operation(output, 2, name, vortex_make_bytes(output->buffer, 0));
}

/* Sets the body: of the answer when denied, in place of the message's
 * otherwise. VORTEX_OK or VORTEX_FULL. */
static inline int32_t vortex_set_body(vortex_output *output, vortex_bytes body)
{
    if (vortex_put(output, body, &output->body) != 0)
        return VORTEX_FULL;
    output->body_length = body.length;
    output->flags |= 1;
    return VORTEX_OK;
}

/* Leaves at most 4,096 bytes for a later phase of this request. VORTEX_OK or
 * VORTEX_FULL. */
static inline int32_t vortex_set_context(vortex_output *output, vortex_bytes context)
{
    if (context.length > 4096)
        return vortex_overflow(output);
    if (vortex_put(output, context, &output->context) != 0)
        return VORTEX_FULL;
    output->context_length = context.length;
    output->flags |= 2;
    return VORTEX_OK;
}

/* Writes a line of UTF-8 to the host's log, cut to 1,024 bytes. VORTEX_OK or
 * VORTEX_FULL. */
static inline int32_t vortex_log(vortex_output *output, int level, vortex_bytes text)
{
    uint32_t text_at;
    uint8_t *record;
    if (output->lines == output->line_room
        && vortex_grow(output, &output->line_room, 64, 12, vortex_data_at(output)) != 0)
        return VORTEX_FULL;
    if (text.length > 1024) {
        text.length = 1024;
        /* No cut before a byte that continues a character. */
        while (text.length > 0 && (text.at[text.length] & 0xC0) == 0x80)
            text.length--;
    }
    if (vortex_put(output, text, &text_at) != 0)
        return VORTEX_FULL;
    record = output->buffer + vortex_lines_at(output) + output->lines * 12;
    vortex_write_u32(record, (uint32_t)level);
    vortex_write_u32(record + 4, text_at);
    vortex_write_u32(record + 8, text.length);
    output->lines++;
    return VORTEX_OK;
}

/* Completes the frame and returns its length in bytes, or VORTEX_FULL when
 * something had no room. */
static inline int32_t vortex_finish(vortex_output *output)
{
    uint32_t from = vortex_lines_at(output);
    uint32_t to = 40 + output->operations * 20;
    uint32_t length = to + output->lines * 12;
    uint8_t *head = output->buffer;
    uint32_t i;
    /* Without a byte behind them, the frame ends where the records do. */
    if (output->end > vortex_data_at(output))
        length = output->end;
    if (output->full || length > output->size || length > INT32_MAX)
        return VORTEX_FULL;
    for (i = 0; i < output->lines * 12; i++)
        output->buffer[to + i] = output->buffer[from + i];
    vortex_write_u32(head, length);
    vortex_write_u32(head + 4,
                     2 | (uint32_t)output->denies << 16 | (uint32_t)output->flags << 24);
    vortex_write_u32(head + 8, output->status);
    vortex_write_u32(head + 12, output->operations);
    vortex_write_u32(head + 16, output->lines);
    vortex_write_u32(head + 20, 0);
    vortex_write_u32(head + 24, output->body);
    vortex_write_u32(head + 28, output->body_length);
    vortex_write_u32(head + 32, output->context);
    vortex_write_u32(head + 36, output->context_length);
    return (int32_t)length;
}

/* ---- Exports ---- */

typedef int32_t (*vortex_hook)(const vortex_input *, vortex_output *);

/* Calls a hook with an input frame, and returns the length in bytes of the
 * output frame that it has written to `output`, or a negative number. */
static inline int32_t vortex_call(vortex_hook hook, const uint8_t *frame, uint32_t length,
                                  uint8_t *buffer, uint32_t size)
{
    vortex_input input;
    vortex_output output;
    int32_t result = vortex_parse(&input, frame, length);
    if (result != VORTEX_OK)
        return result;
    vortex_begin(&output, buffer, size);
    result = hook(&input, &output);
    if (result != VORTEX_OK)
        return result < 0 ? result : VORTEX_FAILED;
    return vortex_finish(&output);
}

#if defined(__wasm__)
#define VORTEX_EXPORT(name) __attribute__((export_name(#name)))
#else
#define VORTEX_EXPORT(name)
#endif

/* Exports a hook, `int32_t hook(const vortex_input *, vortex_output *)`, as a
 * plugin. A module has one such line, with no semicolon behind it. */
#define VORTEX_PLUGIN(hook)                                                               \
    static uint8_t vortex_input_buffer[VORTEX_INPUT_SIZE];                                \
    static uint8_t vortex_output_buffer[VORTEX_OUTPUT_SIZE];                              \
    static uint32_t vortex_descriptor[4];                                                 \
    int32_t vortex_abi_v2(void);                                                          \
    VORTEX_EXPORT(vortex_abi_v2) int32_t vortex_abi_v2(void)                              \
    {                                                                                     \
        vortex_descriptor[0] = (uint32_t)(uintptr_t)vortex_input_buffer;                  \
        vortex_descriptor[1] = VORTEX_INPUT_SIZE;                                         \
        vortex_descriptor[2] = (uint32_t)(uintptr_t)vortex_output_buffer;                 \
        vortex_descriptor[3] = VORTEX_OUTPUT_SIZE;                                        \
        return (int32_t)(uintptr_t)vortex_descriptor;                                     \
    }                                                                                     \
    int32_t vortex_handle(int32_t length);                                                \
    VORTEX_EXPORT(vortex_handle) int32_t vortex_handle(int32_t length)                    \
    {                                                                                     \
        if (length < 0 || length > VORTEX_INPUT_SIZE)                                     \
            return VORTEX_MALFORMED;                                                      \
        return vortex_call(hook, vortex_input_buffer, (uint32_t)length,                   \
                           vortex_output_buffer, VORTEX_OUTPUT_SIZE);                     \
    }

#endif
