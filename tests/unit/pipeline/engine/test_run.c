/* The engine's semantics, on the simulated loop: joins, containers, errors, the order of answers,
 * timers, people, limits, cancelling; and that a run goes on from its journal after any power loss
 * with nothing done twice that had been acknowledged. */
#include "base/clock.h"
#include "io/loop_sim.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/open_run.h"
#include "pipeline/engine/recording.h"
#include "pipeline/engine/run_index.h"
#include "text/json_tree.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct {
    struct file_system *fs;
    struct loop *loop;
    struct pipelines *pipelines;
    struct pipeline_loop *ploop;
    struct arena arena;
    char text[4096]; /* what was told of the answer, pieces parted by '|' */
    char result[65536];
    bool ended;
    struct run *run;
    yyjson_val *recorded; /* a run to go on from; NULL: none */
    struct recording_options recording;
    bool offline;
} f;

static const struct id project = {{7}};

static void open_world(const char *directory)
{
    struct err err = {0};
    const struct sim_faults faults = SIM_FAULTS_DEFAULT;
    const struct pipelines_options options = {
        .fs = f.fs, .directory = directory, .no_threads = true};
    f.loop = loop_sim_new(1, &faults);
    if (pipelines_open(&options, &f.pipelines, &err) != RC_OK)
        fail_msg("%s", err.message);
    f.ploop = pipeline_loop_new(f.pipelines, f.loop, NULL, NULL);
}

static void close_world(void)
{
    pipelines_settle(f.pipelines);
    loop_sim_run(f.loop, NULL, NULL, NS_PER_MS); /* what was posted last */
    pipeline_loop_free(f.ploop);
    loop_sim_run(f.loop, NULL, NULL, NS_PER_MS);
    pipelines_close(f.pipelines);
    loop_free(f.loop);
}

static int setup(void **state)
{
    UNUSED(state);
    memset(&f, 0, sizeof(f));
    arena_init(&f.arena, 256 << 20);
    f.fs = file_system_memory_new(1);
    assert_int_equal(file_make_directory(f.fs, "/run"), RC_OK);
    assert_int_equal(file_sync_directory(f.fs, ""), RC_OK);
    open_world("/run");
    return 0;
}

static int teardown(void **state)
{
    UNUSED(state);
    close_world();
    file_system_free(f.fs);
    arena_fini(&f.arena);
    return 0;
}

static enum proceed on_text(void *arg, struct str text)
{
    UNUSED(arg);
    snprintf(f.text + strlen(f.text), sizeof(f.text) - strlen(f.text), "%s%.*s",
             f.text[0] ? "|" : "", STR_ARG(text));
    return PROCEED;
}

static void on_ended(void *arg, const struct run *run)
{
    struct buf out;
    UNUSED(arg);
    buf_init(&out, sizeof(f.result) - 1);
    run_encode(run, &out);
    memcpy(f.result, out.p, buf_len(&out));
    f.result[buf_len(&out)] = 0;
    buf_fini(&out);
    f.ended = true;
}

/* Single quotes stand for double ones. */
static struct str quoted(const char *text)
{
    struct str copy = arena_copy(&f.arena, str_from(text));
    for (size_t i = 0; i < copy.n; i++)
        if (copy.p[i] == '\'')
            ((char *)copy.p)[i] = '"';
    return copy;
}

static yyjson_val *parse(struct str text)
{
    yyjson_doc *doc;
    struct err err = {0};
    if (json_read(text, &f.arena, &doc, &err) != RC_OK)
        fail_msg("%s", err.message);
    return yyjson_doc_get_root(doc);
}

/* `nodes` without the start, whose inputs are `items` and `n`. */
static void start(const char *nodes, const char *links, const char *settings, const char *inputs)
{
    struct err err = {0};
    struct plan *plan;
    const struct principal principal = {.project = project, .name = STR("me")};
    struct str spec =
        quoted(arena_printf(&f.arena,
                            "{'schema':1,'nodes':[{'id':'start','type':'start','config':{'inputs':["
                            "{'name':'items','type':'array'},{'name':'n','type':'number'}]}},%s],"
                            "'edges':[%s],'settings':%s}",
                            nodes, links, settings)
                   .p);
    if (plan_compile(spec, &plan, &err) != RC_OK)
        fail_msg("%s: %s", err.field, err.message);
    struct run_request request = {
        .plan = plan,
        .offline = f.offline,
        .pipeline = STR("p"),
        .trigger = "api",
        .principal = &principal,
        .inputs = parse(quoted(inputs)),
        .budget_pico = COST_UNKNOWN,
        .owner = {.text = on_text, .ended = on_ended},
    };
    if (f.recorded &&
        recording_read(plan, f.recorded, &f.recording, &request.replay, &err) != RC_OK)
        fail_msg("%s: %s", err.field, err.message);
    f.ended = false;
    f.text[0] = 0;
    f.run = run_start(f.ploop, &request, &err);
    if (!f.run)
        fail_msg("%s", err.message);
    plan_unref(plan);
}

static bool is_ended(void *arg)
{
    UNUSED(arg);
    journal_step(f.pipelines->journal);
    return f.ended;
}

static void go(int64_t virtual_ns) { loop_sim_run(f.loop, is_ended, NULL, virtual_ns); }

static yyjson_val *finish(const char *status)
{
    go(3600 * NS_PER_S);
    assert_true(f.ended);
    yyjson_val *result = parse(str_from(f.result));
    if (!str_eq(json_get_text(result, "status"), str_from(status)))
        fail_msg("%s", f.result);
    return result;
}

static void expect_outputs(yyjson_val *result, const char *want)
{
    struct str got = json_write(yyjson_obj_get(result, "outputs"), &f.arena);
    if (!str_eq(got, quoted(want)))
        fail_msg("%.*s", STR_ARG(got));
}

static size_t count_nodes(yyjson_val *result, const char *node)
{
    size_t i, n, count = 0;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(result, "nodes"), i, n, item) count +=
        str_eq(json_get_text(item, "node"), str_from(node)) &&
        !str_eq(json_get_text(item, "status"), STR("skipped"));
    return count;
}

#define EDGE(from, to)       "{'from':'" from "','to':'" to "'}"
#define PORT(from, port, to) "{'from':'" from "','port':'" port "','to':'" to "'}"
#define TEMPLATE(id, text)   "{'id':'" id "','type':'template','config':{'text':'" text "'}}"
#define ANSWER(id, text)     "{'id':'" id "','type':'answer','config':{'text':'" text "'}}"
#define TIME(ms)             "{'mode':'time','duration_ms':" #ms "}"
#define WAIT(id, ms)         "{'id':'" id "','type':'wait','config':" TIME(ms) "}"
#define END(expression)                                                                            \
    "{'id':'done','type':'end','config':{'outputs':[{'name':'x','value':'" expression "'}]}}"

/* ---- joins ---- */

static void test_a_join_waits_for_its_branches_and_skips_pass_on(void **state)
{
    UNUSED(state);
    start(
        "{'id':'if','type':'if_else','config':{'cases':[{'id':'yes','when':'start.n > "
        "1'}]}}," TEMPLATE("a", "a") "," TEMPLATE("b", "b") "," TEMPLATE("b2", "b2") "," TEMPLATE(
            "both", "{{ a.output }}{{ b2.output }}") "," WAIT("slow", 5000) "," END("both.output"),
        EDGE("start", "if") "," PORT("if", "yes", "a") "," PORT("if", "else", "b") "," EDGE(
            "b",
            "b2") "," EDGE("a",
                           "both") "," EDGE("b2",
                                            "both") "," EDGE("start",
                                                             "slow") "," EDGE("slow",
                                                                              "both") "," EDGE("bot"
                                                                                               "h",
                                                                                               "don"
                                                                                               "e"),
        "{}", "{'n':2}");
    yyjson_val *result = finish("succeeded");
    expect_outputs(result, "{'x':'a'}");
    assert_int_equal(count_nodes(result, "both"), 1);
    assert_int_equal(count_nodes(result, "b"), 0);
    assert_int_equal(count_nodes(result, "b2"), 0);
    assert_true(json_get_double(result, "duration_ms", 0) >= 5000);
}

/* ---- containers ---- */

static void test_nested_iteration_in_a_loop(void **state)
{
    UNUSED(state);
    start("{'id':'turn','type':'loop','config':{'rounds':9,'until':'turn.sum >= 12',"
          "'variables':[{'name':'sum','value':'0','type':'number'}]}},"
          "{'id':'each','type':'iteration','parent':'turn','config':{'list':'start.items',"
          "'output':'inner.output','parallel':3}},"
          "{'id':'inner','type':'iteration','parent':'each','config':{'list':'[1, 2]',"
          "'output':'cell.output','flatten':true}},"
          "{'id':'cell','type':'template','parent':'inner','config':{'text':"
          "'{{ turn.index }}{{ each.index }}{{ inner.item }}'}},"
          "{'id':'add','type':'assigner','parent':'turn','config':{'assignments':["
          "{'variable':'turn.sum','operation':'add','value':'length(each.output) * 3'}]}}," END(
              "turn.sum"),
          EDGE("start", "turn") "," EDGE("each", "add") "," EDGE("turn", "done"), "{}",
          "{'items':['p','q']}");
    yyjson_val *result = finish("succeeded");
    expect_outputs(result, "{'x':12}");
    assert_int_equal(count_nodes(result, "cell"), 8);
    assert_non_null(strstr(f.result, "\"turn#1/each#0/inner#1/cell\""));
    assert_non_null(strstr(f.result, "\"102\""));
}

static void run_failing_items(const char *on_item_error)
{
    start(arena_printf(
              &f.arena,
              "{'id':'each','type':'iteration','config':{'list':'start.items','output':'v.vars',"
              "'on_item_error':'%s'}},"
              "{'id':'v','type':'loop','parent':'each','config':{'rounds':1,'variables':["
              "{'name':'vars','value':'each.item','type':'any'}]}},"
              "{'id':'half','type':'assigner','parent':'v','config':{'assignments':["
              "{'variable':'v.vars','operation':'divide','value':'2'}]}}," END("each.output"),
              on_item_error)
              .p,
          EDGE("start", "each") "," EDGE("each", "done"), "{}", "{'items':[2,'no',6]}");
}

static void test_items_that_fail(void **state)
{
    UNUSED(state);
    run_failing_items("stop");
    yyjson_val *result = finish("failed");
    assert_true(str_eq(json_get_text(yyjson_obj_get(result, "error"), "node"), STR("each")));
    run_failing_items("null");
    expect_outputs(finish("succeeded"), "{'x':[1,null,3]}");
    run_failing_items("drop");
    expect_outputs(finish("succeeded"), "{'x':[1,3]}");
}

/* ---- answers ---- */

static void test_answers_come_in_order_and_not_before_they_are_certain(void **state)
{
    UNUSED(state);
    start(WAIT("slow", 2000) "," ANSWER("first", "one {{ start.n }}") "," ANSWER(
              "second", "two") ","
                               "{'id':'if','type':'if_else','config':{'cases':[{'id':'yes','when':'"
                               "start.n == 1'}]}}," ANSWER("no", "never") "," ANSWER("third",
                                                                                     "three"),
          EDGE("start", "slow") "," EDGE("slow", "first") "," EDGE("first", "second") "," EDGE(
              "slow", "if") "," PORT("if", "yes", "no") "," EDGE("second", "third"),
          "{}", "{'n':5}");
    go(1 * NS_PER_S);
    assert_false(f.ended);
    assert_string_equal(f.text, ""); /* `slow` has two ports: it may still choose the other */
    yyjson_val *result = finish("succeeded");
    assert_true(str_eq(json_get_text(result, "text"), STR("one 5twothree")));
    start(WAIT("slow",
               2000) ","
                     "{'id':'if','type':'if_else','config':{'cases':[{'id':'yes','when':'start.n "
                     "== 5'}]}}," ANSWER("yes", "yes {{ slow.body }}") "," ANSWER("no", "no"),
          EDGE("start", "slow") "," EDGE("slow", "if") "," PORT("if", "yes",
                                                                "yes") "," PORT("if", "else", "no"),
          "{}", "{'n':5}");
    go(1 * NS_PER_S);
    assert_string_equal(f.text, "");
    finish("succeeded");
    assert_string_equal(f.text, "yes ");
}

/* ---- limits ---- */

static void test_steps_are_bounded(void **state)
{
    UNUSED(state);
    start("{'id':'turn','type':'loop','config':{'rounds':1000}},"
          "{'id':'in','type':'template','parent':'turn','config':{'text':'x'}}," END("turn.rounds"),
          EDGE("start", "turn") "," EDGE("turn", "done"), "{'limits':{'steps':100}}", "{}");
    yyjson_val *result = finish("failed");
    assert_true(json_get_int(yyjson_obj_get(result, "usage"), "steps", 0) == 101);
    assert_non_null(strstr(f.result, "more than 100 steps"));
}

static void test_time_that_only_people_take_does_not_count(void **state)
{
    UNUSED(state);
    start(WAIT("long", 60000) "," END("1"), EDGE("start", "long") "," EDGE("long", "done"),
          "{'limits':{'time_ms':1000}}", "{}");
    finish("succeeded");
}

static void test_cancel_inside_containers(void **state)
{
    UNUSED(state);
    start("{'id':'each','type':'iteration','config':{'list':'start.items','output':'1','parallel':"
          "4}},"
          "{'id':'turn','type':'loop','parent':'each','config':{'rounds':3}},"
          "{'id':'nap','type':'wait','parent':'turn','config':{'mode':'time','duration_ms':50000}}"
          "," END("1"),
          EDGE("start", "each") "," EDGE("each", "done"), "{}", "{'items':[1,2,3,4,5,6]}");
    go(1 * NS_PER_S);
    assert_int_equal(run_status(f.run), RUN_WAITING);
    run_cancel(f.run, "enough");
    finish("cancelled");
    assert_int_equal(f.ploop->steps.count, 0);
    struct run_index_wait *waits;
    size_t count;
    run_index_waits(f.pipelines->index, project, 10, &f.arena, &waits, &count);
    assert_int_equal(count, 0);
}

static void test_inputs_are_checked(void **state)
{
    struct err err = {0};
    struct plan *plan;
    struct arena scratch;
    UNUSED(state);
    struct str spec =
        quoted("{'schema':1,'nodes':[{'id':'start','type':'start','config':{'inputs':["
               "{'name':'a','type':'number','required':true},"
               "{'name':'b','type':'string','options':['x','y'],'default':'y'}]}}],'edges':[]}");
    assert_int_equal(plan_compile(spec, &plan, &err), RC_OK);
    arena_init(&scratch, 1 << 20);
    struct value *value =
        flow_read_inputs(plan, parse(quoted("{'a':'12'}")), STR_EMPTY, &scratch, &err);
    assert_true(str_eq(json_write(value_json(value), &scratch), quoted("{'a':12,'b':'y'}")));
    value_unref(value);
    const char *const bad[] = {"{}", "{'a':'x'}", "{'a':1,'b':'z'}", "{'a':1,'c':1}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_null(flow_read_inputs(plan, parse(quoted(bad[i])), STR_EMPTY, &scratch, &err));
    arena_fini(&scratch);
    plan_unref(plan);
}

/* ---- people ---- */

static void test_somebody_answers(void **state)
{
    struct err err = {0};
    UNUSED(state);
    const char *nodes =
        "{'id':'ask','type':'human','config':{'text':'n is {{ start.n }}','timeout_ms':5000,"
        "'actions':[{'id':'ok'}],'fields':[{'name':'v','type':'number'}]}}," END(
            "ask.v") "," ANSWER("late", "late");
    const char *links =
        EDGE("start", "ask") "," PORT("ask", "ok", "done") "," PORT("ask", "timeout", "late");
    start(nodes, links, "{}", "{'n':1}");
    go(NS_PER_S);
    assert_int_equal(
        run_answer_wait(f.run, STR(""), parse(quoted("{'action':'x'}")), STR("me"), &err),
        RC_INVALID);
    assert_int_equal(run_answer_wait(f.run, STR("ask"),
                                     parse(quoted("{'action':'ok','values':{'v':'4'}}")), STR("me"),
                                     &err),
                     RC_OK);
    expect_outputs(finish("succeeded"), "{'x':4}");
    start(nodes, links, "{}", "{'n':1}");
    finish("succeeded");
    assert_string_equal(f.text, "late");
    start(nodes, links, "{'journal':'exit'}", "{'n':1}");
    finish("failed"); /* it would be lost with the process */
}

/* ---- doing it again ---- */

#define HUMAN(id, parent)                                                                          \
    "{'id':'" id "'," parent "'type':'human','config':{'text':'?','actions':[{'id':'ok'}],"        \
    "'fields':[{'name':'v','type':'string'}]}}"

static void start_asking(void)
{
    start("{'id':'each','type':'iteration','config':{'list':'start.items','output':'word.output'}}"
          "," HUMAN(
              "ask",
              "'parent':'each',") ","
                                  "{'id':'word','type':'template','parent':'each','config':{'text':"
                                  "'{{ each.item }}={{ ask.v }}'}}," HUMAN("last", "") "," END(
                                      "each.output"),
          PORT("ask", "ok", "word") "," EDGE("start", "each") "," EDGE("each", "last") "," PORT(
              "last", "ok", "done"),
          "{'journal':'sync'}", "{'items':['a','b']}");
}

static void reply(const char *path, const char *value)
{
    struct err err = {0};
    go(NS_PER_S);
    struct str json =
        quoted(arena_printf(&f.arena, "{'action':'ok','values':{'v':'%s'}}", value).p);
    if (run_answer_wait(f.run, str_from(path), parse(json), STR("me"), &err) != RC_OK)
        fail_msg("%s: %s", path, err.message);
}

static void test_a_recording_is_gone_on_from(void **state)
{
    UNUSED(state);
    start_asking();
    reply("each#0/ask", "1");
    reply("each#1/ask", "2");
    go(NS_PER_S);
    run_cancel(f.run, "enough");
    yyjson_val *recorded = finish("cancelled");
    f.recorded = recorded; /* retried: people are asked for what they have not said */
    start_asking();
    reply("last", "3");
    expect_outputs(finish("succeeded"), "{'x':['a=1','b=2']}");
    f.recorded = recorded; /* forked inside of the iteration: the other item stands */
    f.recording.from = STR("each#1/ask");
    start_asking();
    reply("each#1/ask", "9");
    reply("last", "3");
    yyjson_val *whole = finish("succeeded");
    expect_outputs(whole, "{'x':['a=1','b=9']}");
    f.recorded = whole;
    f.recording = (struct recording_options){.replay = true}; /* nobody is asked */
    f.offline = true;
    start_asking();
    expect_outputs(finish("succeeded"), "{'x':['a=1','b=9']}");
    f.recorded = recorded; /* it does not say what `last` was answered */
    start_asking();
    assert_string_equal(json_get_text(yyjson_obj_get(finish("failed"), "error"), "node").p, "last");
}

static void test_a_fork_survives_the_process(void **state)
{
    UNUSED(state);
    start_asking();
    reply("each#0/ask", "1");
    reply("each#1/ask", "2");
    reply("last", "3");
    f.recorded = finish("succeeded");
    f.recording.from = STR("last");
    start_asking();
    go(NS_PER_S);
    close_world();
    open_world("/run");
    pipelines_begin(f.pipelines);
    f.ended = false;
    go(NS_PER_S);
    f.run = LIST_FIRST(&f.ploop->runs, struct run, node);
    assert_non_null(f.run);
    assert_int_equal(f.run->waits, 1); /* for `last`: the rest is known */
    f.run->owner = (struct run_owner){.ended = on_ended};
    reply("last", "3");
    expect_outputs(finish("succeeded"), "{'x':['a=1','b=2']}");
}

/* ---- power loss ---- */

static int step_of_waits(void)
{
    struct run_index_wait *waits;
    size_t count;
    run_index_waits(f.pipelines->index, project, 10, &f.arena, &waits, &count);
    return count ? waits[0].path.p[1] - '0' : 0;
}

/* Waits w1 to w4 one after the other, in mode sync: once w(n+1) is waited for, the result of wn is
 * durable. At a seeded change the power fails; the next process must not wait for wn again. */
static void lose_power(uint64_t seed)
{
    file_system_free(f.fs);
    f.fs = file_system_memory_new(seed);
    assert_int_equal(file_make_directory(f.fs, "/run"), RC_OK);
    assert_int_equal(file_sync_directory(f.fs, ""), RC_OK);
    open_world("/run");
    start(WAIT("w1", 1000) "," WAIT("w2", 1000) "," WAIT("w3", 1000) "," WAIT("w4",
                                                                              1000) "," END("1"),
          EDGE("start", "w1") "," EDGE("w1", "w2") "," EDGE("w2", "w3") "," EDGE(
              "w3", "w4") "," EDGE("w4", "done"),
          "{'journal':'sync'}", "{}");
    file_system_fail_after(f.fs, 1 + seed % 40);
    int reached = 0;
    for (int ms = 0; ms < 6000 && !f.ended && !file_system_failed(f.fs); ms += 50) {
        go(50 * NS_PER_MS);
        if (!file_system_failed(f.fs))
            reached = MAX(reached, step_of_waits());
    }
    bool told = f.ended && !file_system_failed(f.fs);
    file_system_fail(f.fs);
    close_world();
    file_system_crash(f.fs);
    open_world("/run");
    f.ended = false;
    pipelines_begin(f.pipelines);
    go(20 * NS_PER_MS);
    struct run *run = LIST_FIRST(&f.ploop->runs, struct run, node);
    if (told) {
        assert_null(run);
    } else if (reached) {
        struct run_index_row *rows;
        size_t ended;
        run_index_list(f.pipelines->index, project, STR_EMPTY, -1, 0, 1, &f.arena, &rows, &ended);
        if (!run && !ended) /* its end may have been written, though nobody was told */
            fail_msg("seed %llu: a run that had begun is lost", (unsigned long long)seed);
        int at = step_of_waits();
        if (at && at < reached)
            fail_msg("seed %llu: w%d is waited for again, w%d had been reached",
                     (unsigned long long)seed, at, reached);
    }
    go(10 * NS_PER_S);
    assert_true(list_empty(&f.ploop->runs));
    close_world();
}

static void test_power_loss(void **state)
{
    UNUSED(state);
    close_world();
    for (uint64_t seed = 1; seed <= 400; seed++)
        lose_power(seed);
    open_world("/run");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_join_waits_for_its_branches_and_skips_pass_on, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nested_iteration_in_a_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_items_that_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_come_in_order_and_not_before_they_are_certain,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_steps_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_that_only_people_take_does_not_count, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_cancel_inside_containers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inputs_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_somebody_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_recording_is_gone_on_from, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_fork_survives_the_process, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power_loss, setup, teardown),
    };
    return cmocka_run_group_tests_name("pipeline_run", tests, NULL, NULL);
}
