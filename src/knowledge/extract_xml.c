/* expat, tamed. Billion laughs cannot start: the first entity declaration ends the parse. External
 * entities and DTDs are never loaded (expat does not unless asked). */
#include "knowledge/extract_xml.h"
#include <expat.h>

#define PIECE_BYTES (256 * 1024)

struct xml {
    struct reader *reader;
    const struct xml_calls *calls;
    void *arg;
    XML_Parser parser;
    unsigned depth;
    enum rc rc; /* what ended the parse early */
};

static void stop(struct xml *xml, enum rc rc)
{
    if (rc == RC_OK || xml->rc != RC_OK)
        return;
    xml->rc = rc;
    XML_StopParser(xml->parser, XML_FALSE);
}

static struct str local_name(const char *name)
{
    const char *colon = strchr(name, ':');
    return str_from(colon ? colon + 1 : name);
}

static void opened(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct xml *xml = arg;
    if (xml->rc != RC_OK)
        return;
    if (++xml->depth > READ_DEPTH_MAX)
        stop(xml, err_set(xml->reader->err, ERR_INVALID, "elements nest deeper than %d",
                          READ_DEPTH_MAX));
    else
        stop(xml, xml->calls->open(xml->arg, local_name(name),
                                   (struct xml_attributes){(const char **)attributes}));
}

static void closed(void *arg, const XML_Char *name)
{
    struct xml *xml = arg;
    xml->depth--;
    if (xml->rc == RC_OK && xml->calls->close)
        stop(xml, xml->calls->close(xml->arg, local_name(name)));
}

static void characters(void *arg, const XML_Char *text, int n)
{
    struct xml *xml = arg;
    if (xml->rc == RC_OK && xml->calls->text)
        stop(xml, xml->calls->text(xml->arg, str_make(text, (size_t)n)));
}

static void entity_declared(void *arg, const XML_Char *name, int is_parameter,
                            const XML_Char *value, int value_bytes, const XML_Char *base,
                            const XML_Char *system_id, const XML_Char *public_id,
                            const XML_Char *notation)
{
    struct xml *xml = arg;
    stop(xml, err_set(xml->reader->err, ERR_INVALID, "its XML declares entities"));
}

/* Control characters, which XML forbids and documents (and pdftotext) contain all the same, are
 * read as spaces. Not in UTF-16, whose text has zero bytes. */
static void copy_piece(char *to, struct str piece)
{
    if (!piece.n)
        return;
    memcpy(to, piece.p, piece.n);
    if (memchr(piece.p, 0, MIN(piece.n, 64)))
        return;
    for (size_t i = 0; i < piece.n; i++)
        if ((unsigned char)to[i] < 0x20 && to[i] != '\n' && to[i] != '\t' && to[i] != '\r')
            to[i] = ' ';
}

static enum XML_Status parse_pieces(struct xml *xml, struct str bytes)
{
    for (size_t at = 0;;) {
        size_t n = MIN(bytes.n - at, (size_t)PIECE_BYTES);
        void *to = XML_GetBuffer(xml->parser, PIECE_BYTES);
        if (!to)
            return XML_STATUS_ERROR;
        copy_piece(to, str_slice(bytes, at, at + n));
        at += n;
        bool last = at == bytes.n;
        enum XML_Status status = XML_ParseBuffer(xml->parser, (int)n, last);
        if (last || status != XML_STATUS_OK || xml->rc != RC_OK)
            return status;
    }
}

enum rc xml_parse(struct reader *reader, const char *part, struct str bytes,
                  const struct xml_calls *calls, void *arg)
{
    struct xml xml = {.reader = reader, .calls = calls, .arg = arg};
    xml.parser = XML_ParserCreate(NULL);
    if (!xml.parser)
        return reader_no_memory(reader);
    XML_SetUserData(xml.parser, &xml);
    XML_SetElementHandler(xml.parser, opened, closed);
    XML_SetCharacterDataHandler(xml.parser, characters);
    XML_SetEntityDeclHandler(xml.parser, entity_declared);
    enum XML_Status status = parse_pieces(&xml, bytes);
    if (status != XML_STATUS_OK && xml.rc == RC_OK) {
        enum XML_Error error = XML_GetErrorCode(xml.parser);
        xml.rc = error == XML_ERROR_NO_MEMORY
                     ? reader_no_memory(reader)
                     : err_set(reader->err, ERR_INVALID, "%s is broken in line %lu: %s", part,
                               (unsigned long)XML_GetCurrentLineNumber(xml.parser),
                               XML_ErrorString(error));
    }
    XML_ParserFree(xml.parser);
    return xml.rc;
}

struct str xml_attribute(struct xml_attributes attributes, const char *name)
{
    for (const char **pair = attributes.pairs; pair[0]; pair += 2)
        if (str_eq(local_name(pair[0]), str_from(name)))
            return str_from(pair[1]);
    return STR_EMPTY;
}
