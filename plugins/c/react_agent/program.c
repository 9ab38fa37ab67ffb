#include <sglhost.h>

// How to reason and act, with an example: the ReAct prompt.
static const char INSTRUCTIONS[] =
    "Answer the question with the help of tools. Take turns of Thought, Action and Input; after each you are given an "
    "Observation. The actions are:\n"
    "calculate: computes one product, quotient, sum or difference, as in 12 * 7.\n"
    "look up: finds a fact about a mountain or river.\n"
    "finish: ends, when you know the answer.\n"
    "\n"
    "Question: How much longer is the Nile than the Rhine?\n"
    "Thought: I need the length of the Nile.\n"
    "Action: look up\n"
    "Input: Nile\n"
    "Observation: The Nile is 6650 kilometres long.\n"
    "Thought: I need the length of the Rhine.\n"
    "Action: look up\n"
    "Input: Rhine\n"
    "Observation: The Rhine is 1233 kilometres long.\n"
    "Thought: I must subtract one from the other.\n"
    "Action: calculate\n"
    "Input: 6650 - 1233\n"
    "Observation: 5417\n"
    "Thought: I know the answer.\n"
    "Action: finish\n"
    "Answer: The Nile is 5417 kilometres longer.";

// What there is to look up. The model can ask for nothing else.
static const char *const FACTS[][2] = {
    { "Amazon", "The Amazon is 6400 kilometres long." },
    { "Danube", "The Danube is 2850 kilometres long." },
    { "Everest", "Mount Everest is 8849 metres high." },
    { "Mont Blanc", "Mont Blanc is 4806 metres high." },
    { "Nile", "The Nile is 6650 kilometres long." },
    { "Rhine", "The Rhine is 1233 kilometres long." },
};

// The only input that the calculator is ever given.
static const char EXPRESSION[] = "[0-9]{1,6} [-+*/] [0-9]{1,6}\\n";

static const char *calculate(sgl_state *s, const char *expression) {
    double left, right;
    char operator;
    if (sscanf(expression, "%lf %c %lf", &left, &operator, &right) != 3)
        return sgl_format(s, "\"%s\" cannot be computed", expression); // Cut off before its end.
    if (operator == '/' && right == 0) return "nothing can be divided by 0";
    switch (operator) {
        case '+': return sgl_format(s, "%.16g", left + right);
        case '-': return sgl_format(s, "%.16g", left - right);
        case '*': return sgl_format(s, "%.16g", left * right);
        default: return sgl_format(s, "%.16g", left / right);
    }
}

static const char *look_up(const char *name) {
    for (size_t i = 0; i < sizeof FACTS / sizeof *FACTS; i++) {
        if (!strcmp(FACTS[i][0], name)) return FACTS[i][1];
    }
    return "";
}

// Without the white space around it.
static const char *trimmed(sgl_state *s, const char *text) {
    text += strspn(text, " \n\t");
    size_t length = strlen(text);
    while (length && strchr(" \n\t", text[length - 1])) length--;
    return sgl_format(s, "%.*s", (int)length, text);
}

static void write_member(sgl_json *json, const char *key, const char *text) {
    sgl_write_key(json, key);
    sgl_write_string(json, text);
}

SGL_PROGRAM(react_agent,
    "An agent that reasons and acts in turns, with tools that run inside the program: a calculator and a table of facts.",
    { "question", SGL_STRING, .about = "What to find out.",
      .preset = "\"How much higher is Mount Everest than Mont Blanc?\"" },
    { "max_actions", SGL_INT, .about = "Actions before an answer is due.", .preset = "5" }) {
    sgl_system(s, INSTRUCTIONS);
    sgl_user(s, sgl_format(s, "Question: %s", sgl_string_at(arguments, "question")));
    sgl_assistant_begin(s);

    sgl_write_object(result);
    sgl_write_key(result, "steps");
    sgl_write_list(result);
    for (int64_t i = 0; i < sgl_int_at(arguments, "max_actions"); i++) {
        sgl_append(s, "Thought:");
        sgl_gen(s, "thought", .stop = SGL_TEXTS("\n"));
        sgl_append(s, "\nAction: ");
        sgl_select(s, "action", SGL_TEXTS("calculate", "look up", "finish"));
        const char *action = sgl_get(s, "action"), *observation;
        if (!strcmp(action, "calculate")) {
            sgl_append(s, "\nInput: ");
            sgl_gen(s, "input", .regex = EXPRESSION, .stop = SGL_TEXTS("\n"), .max_tokens = 24);
            observation = calculate(s, sgl_get(s, "input"));
        } else if (!strcmp(action, "look up")) {
            sgl_append(s, "\nInput: ");
            sgl_select(s, "input", SGL_TEXTS(FACTS[0][0], FACTS[1][0], FACTS[2][0], FACTS[3][0], FACTS[4][0], FACTS[5][0]));
            observation = look_up(sgl_get(s, "input"));
        } else {
            break;
        }
        sgl_write_object(result);
        write_member(result, "thought", trimmed(s, sgl_get(s, "thought")));
        write_member(result, "action", action);
        write_member(result, "input", sgl_get(s, "input"));
        write_member(result, "observation", observation);
        sgl_write_end(result);
        sgl_appendf(s, "\nObservation: %s\n", observation);
    }
    sgl_write_end(result);
    sgl_append(s, "\nAnswer:");
    sgl_gen(s, "answer", .stop = SGL_TEXTS("\n"));
    sgl_assistant_end(s);
    write_member(result, "answer", trimmed(s, sgl_get(s, "answer")));
    sgl_write_end(result);
}
