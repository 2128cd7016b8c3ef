# fish completion for rkt: rkt completion fish | source
function __rkt_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($before[1] completion words -- $before[2..-1] "$current" 2>/dev/null)
    printf '%s\n' $lines[2..-1]
    set -l directive (string split -m 1 ' ' -- "$lines[1]")
    set -l behind "$directive[2]"
    set -l typed (string sub -s (math 1 + (string length -- "$behind")) -- "$current")
    switch "$directive[1]"
        case files
            printf '%s\n' $behind(__fish_complete_path "$typed")
        case directories
            printf '%s\n' $behind(__fish_complete_directories "$typed" '')
    end
end
complete -c rkt -f -a '(__rkt_complete)'
