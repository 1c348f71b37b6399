/* The table of commands: what `capstan help`, `--help` and the man pages say. */
#include "app/command.h"

#define JSON_OPTION "  --json              print JSON\n"

const struct command COMMANDS[] = {
    {
        .name = "serve",
        .summary = "run the server",
        .usage = "  capstan serve [--config FILE] [--data DIR] [--listen ADDRESS[,ADDRESS]] "
                 "[--prepare MODEL]\n",
        .options =
            "  --config FILE       capstan.yaml ($CAPSTAN_CONFIG; ./capstan.yaml if there is one)\n"
            "  --data DIR          the data folder ($CAPSTAN_DATA; ./data)\n"
            "  --listen ADDRESS    127.0.0.1:4100, [::]:4100, unix:/run/capstan.sock "
            "($CAPSTAN_LISTEN)\n"
            "  --prepare MODEL     pull this model of the catalogue, and an engine, unless they "
            "are there\n",
        .examples = "  capstan serve\n  capstan serve --config /etc/capstan/capstan.yaml --data "
                    "/var/lib/capstan\n",
        .run = command_serve,
    },
    {
        .name = "check",
        .summary = "check a configuration file",
        .usage = "  capstan check [FILE]\n",
        .examples = "  capstan check capstan.yaml\n",
        .run = command_check,
    },
    {
        .name = "provider",
        .summary = "add, change, test and list providers",
        .usage = "  capstan provider [list | show NAME | test NAME | delete NAME] [--json]\n"
                 "  capstan provider create NAME --format FORMAT [OPTIONS]\n"
                 "  capstan provider set NAME [OPTIONS]\n",
        .options =
            "  --format FORMAT     openai, anthropic, azure, mistral, … (docs/providers.md)\n"
            "  --base-url URL      where it listens\n"
            "  --api-key KEY       its key, or ${env:NAME}, or ${file:/path}\n"
            "  --header 'N: V'     a header of each request; may be repeated\n"
            "  --ca-file FILE      trust these certificates\n"
            "  --proxy URL         a proxy, or 'none'\n"
            "  --http2             offer HTTP/2\n"
            "  --file FILE         the definition as YAML or JSON ('-': standard "
            "input)\n" JSON_OPTION,
        .examples = "  capstan provider create openai --format openai --base-url "
                    "https://api.openai.com/v1 --api-key sk-…\n"
                    "  capstan provider test openai\n",
        .run = command_provider,
    },
    {
        .name = "route",
        .summary = "add, change and list routes",
        .usage = "  capstan route [list | show NAME | delete NAME] [--json]\n"
                 "  capstan route create NAME --target PROVIDER/MODEL[=WEIGHT]... [OPTIONS]\n"
                 "  capstan route set NAME [OPTIONS]\n",
        .options =
            "  --target P/M[=W]    a target and its weight; may be repeated, in order\n"
            "  --balance HOW       ordered, weighted, latency or sticky\n"
            "  --retry N           further tries at a target\n"
            "  --fallback CAUSE    rate, overload, context, content_filter, error, timeout, any\n"
            "  --timeout-connect, --timeout-first-token, --timeout-between, --timeout-total D\n"
            "                      deadlines, such as 500ms, 20s, 5m\n"
            "  --cache-ttl D       keep equal answers that long\n"
            "  --capture WHAT      full, metadata or none\n"
            "  --file FILE         the definition as YAML or JSON ('-': standard "
            "input)\n" JSON_OPTION,
        .examples = "  capstan route create smart --target openai/gpt-5=3 --target "
                    "anthropic/claude-sonnet-4-5 --retry 2\n"
                    "  capstan route set smart --timeout-first-token 20s\n",
        .run = command_route,
    },
    {
        .name = "pipeline",
        .summary = "pipelines: runs, files, versions, comparison",
        .usage = "  capstan pipeline [list | show NAME | delete NAME] [--json]\n"
                 "  capstan pipeline run FILE [--config FILE] [--input NAME=VALUE]... [OPTIONS]\n"
                 "  capstan pipeline run NAME[@VERSION] [--input NAME=VALUE]... [OPTIONS]\n"
                 "  capstan pipeline export NAME [--version V] [--file FILE]\n"
                 "  capstan pipeline import FILE [--name NAME] [--replace] [--dry-run] [OPTIONS]\n"
                 "  capstan pipeline test (FILE | NAME | --gallery) [--version V] [--update]\n"
                 "  capstan pipeline record RUN --file FILE [--name NAME]\n"
                 "  capstan pipeline publish NAME [--message TEXT] [--label LABEL]...\n"
                 "  capstan pipeline label NAME LABEL VERSION[=WEIGHT]...\n"
                 "  capstan pipeline diff NAME [FROM [TO]]\n",
        .options = "  --input NAME=VALUE  an input: a text, @FILE for a file's text, or "
                   "NAME:=JSON; may be repeated\n"
                   "  --config FILE       run FILE with this configuration's providers and routes "
                   "($CAPSTAN_CONFIG;\n"
                   "                      ./capstan.yaml if there is one); needs no server\n"
                   "  --version V         a number, a label, latest or draft\n"
                   "  --session ID, --user NAME\n"
                   "                      whose run it is\n"
                   "  --name NAME         what the imported pipeline is called\n"
                   "  --replace           save it as the draft of one that is there\n"
                   "  --dry-run           only tell what would come of the file\n"
                   "  --model THERE=HERE  a model of an imported file and what it is here; without "
                   "THERE: all others\n"
                   "  --collection THERE=HERE\n"
                   "                      the same for knowledge\n"
                   "  --gallery           test the templates that the program brings along\n"
                   "  --update            keep in FILE what its recorded runs come to now\n"
                   "  --message TEXT      why there is a new version\n"
                   "  --label LABEL       moved to the new version; may be repeated\n"
                   "  --file FILE         where the export goes; standard output unless "
                   "told\n" JSON_OPTION,
        .examples = "  capstan pipeline run summary.yaml --config capstan.yaml --input "
                    "text=@report.txt\n"
                    "  capstan pipeline run support@staging --input query='Where is my parcel?'\n"
                    "  capstan pipeline record run_01… --file support.yaml --name parcel\n"
                    "  capstan pipeline test support.yaml\n"
                    "  capstan pipeline import dify-app.yml --model smart --dry-run\n"
                    "  capstan pipeline publish support --message 'shorter answers' --label "
                    "staging\n"
                    "  capstan pipeline label support production 4=9 5=1\n",
        .run = command_pipeline,
    },
    {
        .name = "prompt",
        .summary = "prompts: versions, labels, comparison, a run",
        .usage = "  capstan prompt [list | get NAME [--version V] | delete NAME] [--json]\n"
                 "  capstan prompt set NAME (--file FILE | --text TEXT) [OPTIONS]\n"
                 "  capstan prompt label NAME LABEL VERSION\n"
                 "  capstan prompt diff NAME FROM TO\n"
                 "  capstan prompt run NAME[@LABEL] [--var NAME=VALUE]...\n",
        .options = "  --file FILE         the definition as YAML or JSON ('-': standard input)\n"
                   "  --text TEXT         the text of a text prompt\n"
                   "  --model MODEL       what it is run on: a route, or provider/model\n"
                   "  --message TEXT      why there is a new version\n"
                   "  --label LABEL       moved to the new version; may be repeated\n"
                   "  --version V         a number or a label\n"
                   "  --var NAME=VALUE    a variable; may be repeated\n" JSON_OPTION,
        .examples = "  capstan prompt set mail --text 'Write to {{who}}' --model smart "
                    "--label production\n"
                    "  capstan prompt run mail --var who=Ann\n",
        .run = command_prompt,
    },
    {
        .name = "key",
        .summary = "give out, change, list and revoke keys",
        .usage = "  capstan key [list | show ID | revoke ID] [--json]\n"
                 "  capstan key create NAME [OPTIONS]\n"
                 "  capstan key set ID [OPTIONS]\n",
        .options = "  --scope SCOPE       call, read, write or admin; may be repeated\n"
                   "  --model GLOB        models it may call; may be repeated\n"
                   "  --expires D         after that time, such as 30d\n"
                   "  --requests-per-minute N, --tokens-per-minute N, --parallel N\n"
                   "  --budget-day USD, --budget-month USD\n"
                   "  --tag NAME=VALUE    on each of its calls; may be repeated\n"
                   "  --user NAME         end user of its calls\n"
                   "  --capture WHAT      full, metadata or none\n" JSON_OPTION,
        .examples = "  capstan key create app --scope call --model 'smart' --budget-day 5.00 "
                    "--requests-per-minute 600\n"
                    "  capstan key revoke key_…\n",
        .run = command_key,
    },
    {
        .name = "member",
        .summary = "invite people and set their roles",
        .usage = "  capstan member [list | show ID | remove ID] [--json]\n"
                 "  capstan member invite --role ROLE [--email ADDRESS]\n"
                 "  capstan member set ID --role ROLE\n",
        .options = "  --role ROLE         viewer, editor, admin or owner\n"
                   "  --email ADDRESS     whom the link is for\n" JSON_OPTION,
        .examples = "  capstan member invite --role editor --email ada@example.org\n",
        .run = command_member,
    },
    {
        .name = "call",
        .summary = "list, show, follow and erase calls",
        .usage = "  capstan call [list] [FILTERS] [--limit N] [--json]\n"
                 "  capstan call show ID [--json]\n"
                 "  capstan call tail [--json]\n"
                 "  capstan call erase ID\n"
                 "  capstan call erase-user NAME   all calls of an end user\n",
        .options = "  --model, --provider, --route, --key, --user, --session NAME\n"
                   "  --tag NAME=VALUE\n"
                   "  --status ok,error,cancelled,refused,blocked\n"
                   "  --from, --to TIME   such as 2026-11-23T10:00:00Z\n"
                   "  --min-latency-ms, --max-latency-ms, --min-cost-usd N\n"
                   "  --text TEXT         occurs in request, answer or error\n"
                   "  --limit N           how many (50)\n" JSON_OPTION,
        .examples = "  capstan call list --status error --from 2026-11-23\n"
                    "  capstan call tail --json | jq .cost_usd\n"
                    "  capstan call erase-user ann@example.org\n",
        .run = command_call,
    },
    {
        .name = "knowledge",
        .summary = "collections of documents: add, search, measure",
        .usage =
            "  capstan knowledge [list | show NAME | documents NAME | delete NAME] [--json]\n"
            "  capstan knowledge create NAME [--encoder E] [--language L] [--description D]\n"
            "          [--scans BY]\n"
            "  capstan knowledge add NAME PATH... [--attributes JSON] [--detach]\n"
            "  capstan knowledge query NAME QUESTION [--k N] [--mode M] [--filter F] [--json]\n"
            "  capstan knowledge eval NAME --queries FILE --qrels FILE [--binary]\n"
            "  capstan knowledge tune NAME [--queries FILE --qrels FILE] [--cuts] [--apply]\n"
            "  capstan knowledge export NAME [--output FILE]\n"
            "  capstan knowledge import NAME FILE\n"
            "  capstan knowledge source list NAME [--json]\n"
            "  capstan knowledge source add NAME KIND ADDRESS... [--name S] [--every 6h]\n"
            "          [--depth N] [--items N] [--include GLOB] [--exclude GLOB] [--detach]\n"
            "  capstan knowledge source add NAME --file DEFINITION.yaml [--detach]\n"
            "  capstan knowledge source show | items | sync | stop NAME SOURCE\n"
            "  capstan knowledge source remove NAME SOURCE [--keep-documents]\n",
        .options = "  --encoder E         all-minilm-l6-v2, or none: words only\n"
                   "  --language L        of the documents: english, german, …, none\n"
                   "  --scans BY          who reads files without text: tesseract, none,\n"
                   "                      vision:ROUTE, docling:URL or tika:URL\n"
                   "  --attributes JSON   of the documents, to filter by\n"
                   "  --mode M            hybrid, vector or text\n"
                   "  --filter F          such as 'year > 2020 and team == \"docs\"'\n"
                   "  --queries FILE      BEIR's queries.jsonl, or ID<tab>QUESTION a line\n"
                   "  --qrels FILE        judgements of TREC or BEIR; documents by their names\n"
                   "  --binary            every grade above 0 counts the same\n"
                   "  --k N               how many hits; of eval: of recall@k\n"
                   "  --cuts              tune tries chunk sizes, overlap and stemming, too\n"
                   "  --apply             tune makes the collection as the winner\n"
                   "  --detach            do not wait until the documents are in\n" JSON_OPTION,
        .examples =
            "  capstan knowledge create handbook && capstan knowledge add handbook ./docs\n"
            "  capstan knowledge query handbook 'how do I install it'\n"
            "  capstan knowledge source add handbook sitemap https://example.org/sitemap.xml "
            "--every 12h\n"
            "  capstan knowledge eval handbook --queries queries.jsonl --qrels test.tsv\n",
        .run = command_knowledge,
    },
    {
        .name = "model",
        .summary = "pull, add, start and stop local models",
        .usage = "  capstan model [list | catalogue] [--json]\n"
                 "  capstan model pull NAME [--detach]\n"
                 "  capstan model add FILE.gguf [--detach]\n"
                 "  capstan model show | start | stop | remove NAME\n",
        .options = "  --detach            do not wait for the job\n" JSON_OPTION,
        .examples = "  capstan model pull smollm2-135m-instruct\n  capstan model add "
                    "./my-model.Q4_K_M.gguf\n",
        .run = command_model,
    },
    {
        .name = "engine",
        .summary = "install the engine that runs local models, show its state",
        .usage = "  capstan engine [status] [--json]\n  capstan engine install [--detach]\n",
        .options = "  --detach            do not wait for the job\n" JSON_OPTION,
        .examples = "  capstan engine install\n",
        .run = command_engine,
    },
    {
        .name = "export",
        .summary = "write providers, routes, keys, limits … as YAML, without secrets",
        .usage = "  capstan export [--output FILE]\n",
        .options = "  --output FILE       instead of standard output\n",
        .examples =
            "  capstan export --output capstan-objects.yaml && git add capstan-objects.yaml\n",
        .run = command_export,
    },
    {
        .name = "diff",
        .summary = "show what 'apply' would change; status 1: something",
        .usage = "  capstan diff FILE [--json]\n",
        .options = JSON_OPTION,
        .examples = "  capstan diff capstan-objects.yaml\n",
        .run = command_diff,
    },
    {
        .name = "apply",
        .summary = "make the server's objects as the file says",
        .usage = "  capstan apply FILE [--dry-run] [--prune] [--json]\n",
        .options = "  --dry-run           only say what would change\n"
                   "  --prune             delete objects that are not in the file\n" JSON_OPTION,
        .examples = "  capstan apply --dry-run capstan-objects.yaml\n",
        .run = command_apply,
    },
    {
        .name = "backup",
        .summary = "make a consistent copy of the data folder while the server runs",
        .usage = "  capstan backup DIRECTORY [--json]\n",
        .options = JSON_OPTION,
        .examples = "  capstan backup /var/backups/capstan-$(date +%F)\n",
        .run = command_backup,
    },
    {
        .name = "upgrade",
        .summary =
            "let the program as it now stands on the disk take over, without a dropped stream",
        .usage = "  capstan upgrade\n",
        .examples =
            "  capstan upgrade            after installing a new version, or to change settings\n",
        .run = command_upgrade,
    },
    {
        .name = "bench",
        .summary = "load on a server, with latencies and the server's CPU time a request",
        .usage = "  capstan bench URL [OPTIONS]\n",
        .options =
            "  --rate N            requests a second, whatever the answers (open loop)\n"
            "  --parallel N        without --rate: so many at a time (default 16)\n"
            "  --connections N     at most so many connections\n"
            "  --duration D, --warmup D, --timeout D   default 10s, 1s, 30s\n"
            "  --bytes N           size of the chat request sent (default 1024)\n"
            "  --model NAME, --stream    what it asks for\n"
            "  --body TEXT|@FILE, --method M, --header 'N: V'   or any other request\n"
            "  --key KEY           as bearer token (default: $CAPSTAN_KEY)\n"
            "  --ca-file FILE, --http2\n"
            "  --pid PID[,PID]     measure CPU time and memory of these processes\n" JSON_OPTION,
        .examples = "  capstan bench http://127.0.0.1:4100/v1/chat/completions --model smart "
                    "--rate 2000 --pid $PID\n"
                    "  capstan bench http://127.0.0.1:4100/v1/chat/completions --stream --parallel "
                    "100 --json\n",
        .run = command_bench,
    },
    {
        .name = "mock",
        .summary = "a scripted OpenAI and Anthropic upstream, for tests",
        .usage = "  capstan mock [OPTIONS]\n",
        .options =
            "  --listen ADDRESS    default 127.0.0.1:4200; port 0: any free one, which is printed\n"
            "  --script SCRIPT     settings of every call, as name=value&name=value\n"
            "  --settings          list what a script can say\n"
            "  --loops N           threads\n"
            "  --key KEY           refuse calls without this key\n"
            "  --record            keep the last requests for GET /mock/requests\n"
            "  --tls-cert FILE, --tls-key FILE   serve TLS\n",
        .examples = "  capstan mock --script 'latency=20ms&tokens=100&event_delay=5ms'\n"
                    "  curl http://127.0.0.1:4200/v1/chat/completions -H 'x-mock: "
                    "status=429&retry_after=2' -d "
                    "'{\"model\":\"gpt-mock\",\"messages\":[]}'\n"
                    "  …the same as a model's name, through a gateway: "
                    "\"gpt-mock?status=429&retry_after=2\"\n",
        .run = command_mock,
    },
    {
        .name = "version",
        .summary = "print the version",
        .usage = "  capstan version\n",
        .run = command_version,
    },
    {
        .name = "help",
        .summary = "explain a command",
        .usage = "  capstan help [--man] [COMMAND]\n",
        .options = "  --man   as a man page (troff)\n",
        .examples = "  capstan help route\n  capstan help --man serve | man -l -\n",
        .run = command_help,
    },
};

const size_t COMMAND_COUNT = COUNT_OF(COMMANDS);
