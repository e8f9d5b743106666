// Completion scripts: words of the verbs and their options, written from the same tables as the verbs themselves.
#include <stdio.h>
#include <string.h>

#include "cli/verb.h"

static void print_words(void)
{
    for (size_t i = 0; i < cli_verbs_len + hand_verbs_len; i++) {
        const char *words = i < cli_verbs_len ? cli_verbs[i].words : hand_verbs[i - cli_verbs_len].words;
        printf("        \"%s\") opts=\"", words);
        for (size_t k = 0; i < cli_verbs_len && k < cli_verbs[i].flags_len; k++) {
            printf("--");
            for (const char *p = cli_verbs[i].flags[k].name; *p != '\0'; p++) {
                putchar(*p == '_' ? '-' : *p);
            }
            putchar(' ');
        }
        printf("--json --help\" ;;\n");
    }
}

static void print_bash(void)
{
    puts("# bash completion for muster; load with: source <(muster completion bash)\n"
         "_muster() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} typed=\"\" opts=\"\" words=\"\" rest verb i\n"
         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "        [[ ${COMP_WORDS[i]} == -* ]] || typed=\"${typed:+$typed }${COMP_WORDS[i]}\"\n"
         "    done\n"
         "    rest=$typed\n"
         "    while [[ -n $rest && -z $opts ]]; do\n"
         "        case \"$rest\" in");
    print_words();
    puts("        esac\n"
         "        [[ $rest == *\" \"* ]] && rest=${rest% *} || break\n"
         "    done");
    printf("    local all=\"serve\nhelp");
    for (size_t i = 0; i < cli_verbs_len + hand_verbs_len; i++) {
        const char *words = i < cli_verbs_len ? cli_verbs[i].words : hand_verbs[i - cli_verbs_len].words;
        printf("\n%s", words);
    }
    puts("\"\n"
         "    if [[ $cur == -* ]]; then words=$opts\n"
         "    else\n"
         "        while IFS= read -r verb; do\n"
         "            [[ -n $typed && $verb != \"$typed \"* ]] && continue\n"
         "            verb=${verb#\"${typed:+$typed }\"}\n"
         "            words+=\" ${verb%% *}\"\n"
         "        done <<< \"$all\"\n"
         "    fi\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\" | sort -u))\n"
         "}\n"
         "complete -o default -F _muster muster");
}

int verb_completion(struct cli *cli, int argc, char **argv)
{
    (void)cli;
    if (argc == 1 && strcmp(argv[0], "bash") == 0) {
        print_bash();
        return CLI_OK;
    }
    if (argc == 1 && strcmp(argv[0], "zsh") == 0) {
        puts("autoload -U +X bashcompinit && bashcompinit");
        print_bash();
        return CLI_OK;
    }
    cli_say("completion: which shell? bash or zsh");
    return CLI_USAGE;
}
